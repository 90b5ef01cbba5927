from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from failguard.errors import ConfigurationError
from failguard.resources import ResourceLimits
from failguard.resources.emissions import kg_per_kwh


@pytest.fixture
def codecarbon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of the package that are asked, as they are in 3.3."""
    parts: dict[str, dict[str, Any]] = {
        "codecarbon": {"__spec__": importlib.util.spec_from_loader("codecarbon", None), "__path__": []},
        "codecarbon.core": {"__path__": []},
        "codecarbon.core.emissions": {
            "Emissions": lambda source: SimpleNamespace(
                get_country_emissions=lambda energy, geo: source.get_global_energy_mix_data()[geo.country] * energy
            )
        },
        "codecarbon.core.units": {"Energy": SimpleNamespace(from_energy=lambda kwh: kwh)},
        "codecarbon.external": {"__path__": []},
        "codecarbon.external.geography": {
            "GeoMetadata": lambda country_iso_code: SimpleNamespace(country=country_iso_code)
        },
        "codecarbon.input": {"DataSource": lambda: SimpleNamespace(get_global_energy_mix_data=lambda: {"FRA": 0.05})},
    }
    for name, values in parts.items():
        module = ModuleType(name)
        module.__dict__.update(values)
        monkeypatch.setitem(sys.modules, name, module)
    kg_per_kwh.cache_clear()


@pytest.mark.usefixtures("codecarbon")
def test_a_country_that_is_known_and_one_that_is_not() -> None:
    assert ResourceLimits(emissions_country="FRA").emissions_country == "FRA"
    assert kg_per_kwh("FRA") == 0.05
    assert kg_per_kwh("XXX") is None, "no world average in place of unknown"


@pytest.mark.usefixtures("codecarbon")
@pytest.mark.parametrize("country", ["fr", "France", 33, "fra"])
def test_what_is_no_code_is_refused(country: Any) -> None:
    with pytest.raises(ConfigurationError, match="emissions_country"):
        ResourceLimits(emissions_country=country)


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="pip install codecarbon"):
        ResourceLimits(emissions_country="FRA")
    kg_per_kwh.cache_clear()
    assert kg_per_kwh("FRA") is None
