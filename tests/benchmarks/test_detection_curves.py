"""The calibration of the curve detectors: what is frozen is in force, and the figures count what they say."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import fields
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.detection.curves.curve import Curve, epochs_only
from benchmarks.detection.curves.figures import figures, left_out, overfitting
from benchmarks.detection.curves.fit import DETECTORS, GRID, Fit, fit
from benchmarks.detection.curves.verdicts import listen, worst
from benchmarks.detection.curves.zoo import zoo

from failguard.core.finding import Severity

command = importlib.import_module("benchmarks.detection.curves.__main__")

V_SHAPE = [1.0 - 0.05 * i for i in range(10)] + [0.55 + 0.03 * i for i in range(10)]
FALLING = [1.0 * 0.85**i for i in range(20)]


def curve(val: list[float], expected: tuple[str, ...] = (), family: str = "epochs/test", seed: int = 0) -> Curve:
    example = epochs_only(f"{family} {seed}", FALLING, val)
    return Curve(family, example, expected, seed, example.epochs)


OVERFIT = curve(V_SHAPE, ("metric.overfitting",), "epochs/overfit")
HEALTHY = curve([x + 0.1 for x in FALLING])
MISLABELLED = curve(V_SHAPE, family="epochs/said to be healthy")
MISSED = curve([x + 0.1 for x in FALLING], ("metric.overfitting",), "epochs/missed")


def test_defaults_are_the_frozen_values() -> None:
    assert command.differences() == []


def test_a_changed_default_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    frozen = json.loads(command.FROZEN.read_text())
    frozen["chosen"]["loss.spike"]["min_sigmas"] = 99.0
    changed = tmp_path / "calibration.json"
    changed.write_text(json.dumps(frozen))
    monkeypatch.setattr(command, "FROZEN", changed)
    (line,) = command.differences()
    assert line.startswith("LossSpike.min_sigmas is ")
    assert line.endswith("frozen is 99.0")


def test_frozen_values_come_from_the_grid_and_every_attribute_is_in_it() -> None:
    frozen = json.loads(command.FROZEN.read_text())["chosen"]
    for code, detector in DETECTORS.items():
        attributes = {field.name for field in fields(detector)}
        assert set(GRID[code]) == attributes == set(frozen[code])
        assert all(frozen[code][name] in values for name, values in GRID[code].items())


def test_halves_share_no_curve() -> None:
    assert not set(command.CALIBRATION_SEEDS) & set(command.REPORT_SEEDS)
    assert all(seed % 2 == 0 for seed in command.CALIBRATION_SEEDS)
    assert all(seed % 2 == 1 for seed in command.REPORT_SEEDS)


def test_curves_are_the_same_each_time_and_differ_by_seed() -> None:
    def numbers(seed: int) -> list[object]:
        return [(c.family, c.example.steps, c.example.epochs, c.log) for c in zoo([seed])]

    assert numbers(1) == numbers(1)
    assert all(a != b for a, b in zip(numbers(1), numbers(2), strict=True))
    families = [c.family for c in zoo([0])]
    assert len(families) == len(set(families))


def test_both_ways_say_the_same_of_a_log_of_epochs() -> None:
    detector = DETECTORS["metric.overfitting"]
    replayed = listen(OVERFIT, [detector], both_ways=False)
    both = listen(OVERFIT, [detector])
    assert worst(replayed) == worst(both) == {"metric.overfitting": Severity.WARNING}
    assert len(both) > len(replayed)


def test_figures() -> None:
    result = figures([OVERFIT, MISSED, HEALTHY, MISLABELLED], list(DETECTORS.values()))
    assert result["healthy"]["runs"] == 2
    assert result["healthy"]["warning"] == 0.5
    assert result["healthy"]["error"] == 0.0
    assert result["healthy"]["alarms"] == {"epochs/said to be healthy": {"metric.overfitting warning": 1}}
    assert result["faulty"]["found"] == result["faulty"]["right_root"] == 0.5
    assert result["faulty"]["missed"] == {"epochs/missed": 1}
    assert result["recall"] == {"metric.overfitting": {"runs": 2, "share": 0.5}}
    assert result["confusion"] == {"metric.overfitting": {"metric.overfitting": 1, "nothing": 1, "runs": 2}}


def test_figures_of_overfitting() -> None:
    result = overfitting([OVERFIT, MISSED, HEALTHY, MISLABELLED], DETECTORS["metric.overfitting"])
    assert (result["hits"], result["false_alarms"], result["overfit"]) == (1, 1, 2)
    assert result["f1"] == 0.5
    assert result["best_epoch_named"] == 1.0
    assert 4 <= result["delay_epochs_median"] <= 8


def test_the_fit_avoids_false_alarms_first_and_then_finds_what_it_can() -> None:
    strict = fit("metric.overfitting", [MISLABELLED, OVERFIT])
    eager = fit("metric.overfitting", [HEALTHY, OVERFIT])
    assert eager.cost(eager.chosen) == 0.0
    assert strict.cost(strict.chosen) >= 1.0
    assert eager.best() == eager.chosen


def test_a_family_left_out_has_no_say_in_the_choice() -> None:
    quiet, loud = (5, 0.06, 0.15, 8.0), (3, 0.03, 0.05, 4.5)
    search = Fit("metric.overfitting", [OVERFIT, HEALTHY, MISLABELLED])
    warning = Severity.WARNING
    search.verdicts = {quiet: [None, None, None], loud: [warning, None, warning]}
    search.chosen = quiet
    assert search.best() == quiet  # a miss costs less than a false alarm in one of two families
    assert search.best(without="epochs/said to be healthy") == loud
    result = left_out([search])
    assert result == {"runs": 2, "error": 0.0, "warning": 0.5, "families": {"epochs/said to be healthy": 1}}
