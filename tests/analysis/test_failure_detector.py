from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import failguard
from failguard.analysis import FailureDetector
from failguard.errors import ConfigurationError, InputError


def stuck(n: int, value: float = 2.3) -> list[dict[str, float]]:
    return [{"loss": value} for _ in range(n)]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, np.float32("nan")])
def test_divergence(bad: float) -> None:
    detector = FailureDetector({"initial_loss": 2.3})
    assert detector.monitor_training([{"loss": 1.0}, {"loss": bad}]) == "divergence"
    assert (detector.step, detector.message) == (1, "Training diverged at step 1")


def test_no_learning_as_the_source_has_it() -> None:
    detector = FailureDetector({"initial_loss": 2.3})
    assert detector.monitor_training(stuck(500, 2.4)) == "no_learning"
    assert detector.step == 101, "the first step above 100"
    assert detector.monitor_training(stuck(101, 2.4)) == "completed"
    assert detector.monitor_training(stuck(500, 2.3)) == "completed", "not above the initial loss"


def test_no_learning_without_an_initial_loss() -> None:
    assert FailureDetector().monitor_training(stuck(200)) == "no_learning"
    noise = np.random.default_rng(0).normal(0, 0.3, 500)
    learning = [{"loss": 2.3 * math.exp(-i / 100) + 0.5 + x} for i, x in enumerate(noise)]
    assert FailureDetector().monitor_training(learning) == "completed"


def test_a_few_logged_losses_are_not_compared_with_themselves() -> None:
    seldom = [{"loss": 1.0} if i % 60 == 0 else {} for i in range(200)]
    assert FailureDetector().monitor_training(seldom) == "completed"


def test_overfitting() -> None:
    detector = FailureDetector()
    rows = [{"loss": 1.0, "train_loss": 0.5, "val_loss": 1.0}, {"loss": 1.0, "train_loss": 0.5, "val_loss": 1.01}]
    assert detector.monitor_training(rows) == "overfitting"
    assert detector.message == "Severe overfitting detected at step 1"
    assert FailureDetector({"overfitting_ratio": 3}).monitor_training(rows) == "completed"


@pytest.mark.parametrize(
    "row",
    [
        {"val_loss": 9.0},  # nothing to compare with
        {"loss": 0.0, "val_loss": 9.0},
        {"loss": -1.0, "val_loss": -0.5},
        {"loss": 1.0, "val_loss": None},
        {"loss": 1.0, "val_loss": math.nan},
        {"loss": None, "train_loss": 1.0},
    ],
)
def test_what_cannot_be_compared_is_no_overfitting(row: dict[str, Any]) -> None:
    assert FailureDetector().monitor_training([row]) == "completed"


def test_losses_stand_in_for_each_other() -> None:
    assert FailureDetector().monitor_training([{"train_loss": math.nan}]) == "divergence"
    assert FailureDetector().monitor_training([{"loss": 1.0, "val_loss": 2.5}]) == "overfitting"


def test_a_generator_is_read_no_further_than_the_answer() -> None:
    def stream() -> Iterator[dict[str, float]]:
        yield {"loss": 1.0}
        yield {"loss": math.nan}
        raise AssertionError("read too far")

    assert FailureDetector().monitor_training(stream()) == "divergence"


def test_nothing_happened() -> None:
    detector = FailureDetector()
    assert detector.monitor_training([]) == "completed"
    assert (detector.step, detector.message) == (-1, "")


def test_a_second_stream_starts_anew() -> None:
    detector = FailureDetector()
    detector.monitor_training([{"loss": math.nan}])
    assert detector.monitor_training([{"loss": 1.0}]) == "completed"
    assert (detector.step, detector.message) == (0, "")


def test_alerts_get_the_message(caplog: pytest.LogCaptureFixture) -> None:
    messages: list[str] = []

    def broken(message: str) -> None:
        raise RuntimeError("no network")

    detector = FailureDetector(alerts=[broken, messages.append], alert_channel="#runs")
    with caplog.at_level(logging.WARNING, logger="failguard"):
        assert detector.monitor_training([{"loss": math.nan}]) == "divergence"
    assert messages == ["Training diverged at step 0"]
    assert "#runs: Training diverged at step 0" in caplog.text
    assert "no network" in caplog.text


def test_one_alert_function_is_enough() -> None:
    messages: list[str] = []
    FailureDetector(alerts=messages.append).monitor_training([{"loss": math.inf}])
    assert len(messages) == 1


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"inital_loss": 1.0}, "There is no threshold 'inital_loss'. Did you mean 'initial_loss'"),
        ({"zzz": 1.0}, "Allowed: initial_loss, overfitting_ratio"),
        ({"overfitting_ratio": -1}, "overfitting_ratio"),
        ({"overfitting_ratio": None}, "overfitting_ratio"),
        ({"initial_loss": "high"}, "initial_loss"),
        ({"initial_loss": math.nan}, "initial_loss"),
        ({"no_learning_after_steps": True}, "no_learning_after_steps"),
        ([1.0], "mapping"),
    ],
)
def test_unusable_thresholds_are_named(thresholds: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        FailureDetector(thresholds)


def test_unusable_alerts_are_named() -> None:
    pytest.importorskip("apprise")
    with pytest.raises(ConfigurationError, match=r"alert address .* is not understood"):
        FailureDetector(alerts=["#channel"])


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ({"loss": [1.0]}, "for a dict of series use failguard.analyze"),
        ("loss", "one mapping a step"),
        (3, "one mapping a step"),
        ([1.0], "Item 0"),
        ([{"loss": "0.5"}], "'loss' of item 0 is text"),
        ([{"loss": [1.0, 2.0]}], "not a single number"),
        ([{"acc": 1.0}], "No item of the stream"),
    ],
)
def test_unusable_streams_are_named(stream: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        FailureDetector().monitor_training(stream)


def test_is_a_public_name() -> None:
    assert failguard.FailureDetector is FailureDetector


def test_addresses_are_told_and_a_failure_is_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("apprise")
    dead = "json://127.0.0.1:9/hunter2"
    for detector in (FailureDetector(alerts=[dead]), FailureDetector(alert_channel=dead)):
        caplog.clear()
        assert detector.monitor_training([{"loss": math.nan}]) == "divergence"
        assert "an alert failed: json://..." in caplog.text
        assert "hunter2" not in caplog.text
