from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest

from failguard.core.finding import Finding
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.detectors import presets
from failguard.detectors.base import Example
from failguard.detectors.loss_non_finite import LossNonFinite
from failguard.errors import ConfigurationError


@dataclass
class Chosen:
    detectors: Any = "standard"
    patience: int | None = None
    monitor: str = "val_loss"
    mode: Any = "min"


class Custom:
    code = "loss.spike"
    TRIPS: ClassVar[tuple[Example, ...]] = ()
    QUIET: ClassVar[tuple[Example, ...]] = ()

    def check(self, observation: Observation, history: History) -> Finding | None:
        return None


MINIMAL = {
    "loss.non_finite",
    "gradient.non_finite",
    "weights.non_finite",
    "metric.non_finite",
    "run.exception",
    "run.interrupted",
}
STANDARD = MINIMAL | {
    "loss.divergence",
    "loss.no_learning",
    "loss.spike",
    "loss.plateau",
    "loss.oscillation",
    "metric.overfitting",
    "metric.degenerate_predictions",
    "gradient.exploding",
    "gradient.vanishing",
    "gradient.missing",
    "gradient.accumulating",
    "update.too_large",
    "update.too_small",
    "weights.frozen",
    "activation.dead",
    "activation.saturated",
    "amp.scale_collapse",
    "model.output_mismatch",
    "model.wrong_mode",
    "model.no_nonlinearity",
    "data.constant_feature",
    "data.drift",
    "data.imbalance",
    "data.unshuffled",
    "data.scale",
    "resource.memory_growth",
    "resource.gpu_memory_growth",
    "resource.input_bound",
    "resource.low_gpu_utilization",
    "resource.gpu_throttled",
    "resource.gpu_error",
    "resource.disk_low",
    "resource.oom",
    "run.slow_step",
    "run.straggler",
    "run.hang",
}


def codes(settings: Chosen) -> set[str]:
    detectors = presets.detectors_for(settings)
    assert len({d.code for d in detectors}) == len(detectors)
    return {d.code for d in detectors}


def test_presets() -> None:
    assert codes(Chosen("minimal")) == MINIMAL
    assert codes(Chosen("standard")) == STANDARD
    assert codes(Chosen("full")) == STANDARD


def test_early_stopping_comes_with_patience() -> None:
    for chosen in ("minimal", "standard"):
        assert "metric.no_improvement" in codes(Chosen(chosen, patience=3))
    detectors = presets.detectors_for(Chosen([Custom()], patience=3))
    assert [d.code for d in detectors] == ["loss.spike", "metric.no_improvement"]
    assert detectors[1].patience == 3  # type: ignore[attr-defined]


def test_a_list_is_taken_as_it_is() -> None:
    mine = [LossNonFinite(), Custom()]
    assert presets.detectors_for(Chosen(mine)) == mine
    assert presets.detectors_for(Chosen([])) == []


@pytest.mark.parametrize(
    ("detectors", "message"),
    [
        ("everything", "'minimal', 'standard', 'full'"),
        (7, "int"),
        ([LossNonFinite], r"is a class. Pass an instance: LossNonFinite\(\)"),
        (["loss.non_finite"], "is no detector"),
    ],
)
def test_what_is_no_detector_is_refused(detectors: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        presets.detectors_for(Chosen(detectors))


def test_detectors_of_other_packages(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    group = presets.ENTRY_POINT_GROUP
    offered = [
        EntryPoint("good", f"{__name__}:Custom", group),
        EntryPoint("gone", "no_such_package:Detector", group),
        EntryPoint("odd", "builtins:dict", group),
    ]
    monkeypatch.setattr(EntryPoint, "load", lambda self: {"good": Custom, "odd": dict}[self.name])
    monkeypatch.setattr(presets, "entry_points", lambda group: offered)
    with caplog.at_level(logging.WARNING, logger="failguard"):
        found = presets.detectors_for(Chosen("standard"))
    assert {d.code for d in found} == STANDARD | {"loss.spike"}
    assert "'gone'" in caplog.text
    assert "'odd'" in caplog.text
    assert "loss.spike" not in codes(Chosen("minimal"))
