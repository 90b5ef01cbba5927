"""Emissions of a run's energy, from the energy mix of a country as ``codecarbon`` has it. Optional, and offline."""

from __future__ import annotations

import importlib.util
from functools import cache

from failguard.errors import ConfigurationError

__all__ = ["check_country", "kg_per_kwh"]


def check_country(country: object) -> None:
    """Make sure that a country's code can be used.

    Raises:
        ConfigurationError: It is no ISO code of three letters, or codecarbon is not installed.
    """
    if not (isinstance(country, str) and len(country) == 3 and country.isalpha() and country.isupper()):
        raise ConfigurationError(
            f"emissions_country={country!r} cannot be used: it takes an ISO code of three capital letters, as 'FRA'."
        )
    if importlib.util.find_spec("codecarbon") is None:
        raise ConfigurationError("emissions_country needs codecarbon: pip install codecarbon. Or leave it out.")


@cache
def kg_per_kwh(country: str) -> float | None:
    """Kilograms of CO2 equivalent per kilowatt-hour.

    Args:
        country: ISO code of three letters.

    Returns:
        ``None`` where codecarbon does not know the country, or has changed too much to be asked.
    """
    try:
        from codecarbon.core.emissions import Emissions
        from codecarbon.core.units import Energy
        from codecarbon.external.geography import GeoMetadata
        from codecarbon.input import DataSource

        source = DataSource()
        if country not in source.get_global_energy_mix_data():
            return None
        mix = GeoMetadata(country_iso_code=country)
        return float(Emissions(source).get_country_emissions(Energy.from_energy(1.0), mix))
    except Exception:  # noqa: BLE001 - it is another package's inside
        return None
