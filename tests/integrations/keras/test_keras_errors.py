"""Fits that raise: the record ends, the error goes on, and the next fit is a clean one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from failguard import FailGuardError, Status

pytestmark = pytest.mark.framework


class _Raises(keras.callbacks.Callback):  # type: ignore[misc]
    """Raises in one of Keras' events."""

    def __init__(self, event: str, error: BaseException) -> None:
        super().__init__()

        def raises(*_: Any, **__: Any) -> None:
            raise error

        setattr(self, event, raises)


def _is_clean(model: Any) -> bool:
    left = {"compute_loss", "train_step"} & set(model.__dict__) or "apply" in model.optimizer.__dict__
    return not left and not hasattr(model.train_function, "failguard_tap")


def test_an_error_in_the_data_is_recorded(data: Any, make_model: Any, make_guard: Any) -> None:
    x, y = data

    def batches() -> Iterator[Any]:
        yield x[:16], y[:16]
        yield x[:16], y[:16]
        raise OSError("the disk with the images is gone")

    guard = make_guard()
    model = make_model()
    with pytest.raises(Exception, match="the images is gone"), guard:
        model.fit(batches(), verbose=0, callbacks=[guard])
    report = guard.report
    assert report.status is Status.FAILED
    assert report.root is not None
    assert report.root.code == "run.exception"
    assert report.exception is not None
    assert "the images is gone" in report.exception.message
    assert report.progress.steps == 2
    assert _is_clean(model)


def test_an_error_inside_a_step_is_seen_without_a_block(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    x, y = data
    y = y.copy()
    y[50] = 9
    guard = make_guard()
    model = make_model(loss=_strict_loss)
    with pytest.raises(tf.errors.InvalidArgumentError):
        fit(model, (x, y), guard)
    assert guard.report.status is Status.FAILED
    assert guard.report.progress.steps == 3
    assert guard.report.exception is not None
    assert _is_clean(model)


def _strict_loss(y_true: Any, y_pred: Any) -> Any:
    tf.debugging.assert_less(y_true, 3.0)
    return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)


def test_an_interrupt_in_a_step(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    class Interrupted(keras.Sequential):  # type: ignore[misc]
        seen = 0

        def train_step(self, batch: Any) -> Any:
            self.seen += 1
            if self.seen == 4:
                raise KeyboardInterrupt
            return super().train_step(batch)

    guard = make_guard()
    model = make_model(cls=Interrupted, run_eagerly=True)
    with pytest.raises(KeyboardInterrupt):
        fit(model, data, guard)
    assert guard.report.status is Status.INTERRUPTED
    assert guard.report.root is not None
    assert guard.report.root.code == "run.interrupted"
    assert guard.report.progress.steps == 3
    assert _is_clean(model)


def test_an_error_of_another_callback_is_recorded_in_a_block(
    data: Any, make_model: Any, make_guard: Any, fit: Any
) -> None:
    guard = make_guard()
    model = make_model()
    with pytest.raises(ValueError, match="no such logger"), guard:
        fit(model, data, guard, callbacks=[_Raises("on_epoch_end", ValueError("no such logger"))])
    assert guard.report.status is Status.FAILED
    assert guard.report.exception is not None
    assert guard.report.exception.message == "no such logger"
    assert _is_clean(model)


@pytest.mark.parametrize("next_fit", ["same guard", "new guard", "no guard", "compiled anew"])
def test_what_an_unseen_error_leaves_behind_is_tidied_up(
    next_fit: str, data: Any, make_model: Any, make_guard: Any, fit: Any
) -> None:
    guard = make_guard()
    model = make_model()
    with pytest.raises(ValueError, match="somewhere"):
        fit(model, data, guard, callbacks=[_Raises("on_epoch_end", ValueError("somewhere"))])
    assert guard.report.status is Status.RUNNING  # Keras told nobody
    first = guard.report.run.record_id
    second = {"same guard": guard, "no guard": None}.get(next_fit, make_guard())
    if next_fit == "compiled anew":
        model.compile("sgd", loss=model.loss)
    history = fit(model, data, second)
    assert len(history.history["loss"]) == 2
    assert _is_clean(model)
    if next_fit == "same guard":
        assert guard.report.status is Status.COMPLETED
        assert guard.report.run.record_id != first
        return
    assert guard.report.status is Status.FAILED
    assert "with guard" in guard.report.exception.message
    if second is not None:
        assert second.report.status is Status.COMPLETED
        assert second.report.progress.steps == 20


def test_an_error_swallowed_in_the_block_ends_the_record(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    guard = make_guard()
    with guard:
        try:
            fit(make_model(), data, guard, callbacks=[_Raises("on_epoch_begin", ValueError("x"))])
        except ValueError:
            pass
    assert guard.report.status is Status.FAILED


def test_a_failing_part_of_failguard_leaves_training_alone(
    contained: None, data: Any, make_model: Any, make_guard: Any, fit: Any, state: Any
) -> None:
    class BrokenDetector:
        code = "loss.spike"
        TRIPS = QUIET = ()

        def check(self, observation: Any, history: Any) -> None:
            raise RuntimeError("detector")

    class BrokenSink:
        name = "broken"
        background = False

        def start(self, report: Any) -> None:
            raise RuntimeError("sink")

        progress = finish = start

    runs = []
    guard = make_guard(detectors=[BrokenDetector()], sinks=[BrokenSink()])
    for watching in (None, guard):
        model = make_model()
        fit(model, data, watching)
        runs.append(state(model))
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)
    parts = {error.part for error in guard.report.part_errors}
    assert any("detector loss.spike" in part for part in parts)
    assert any("broken" in part for part in parts)
    assert guard.report.status is Status.COMPLETED


@pytest.mark.parametrize("part", ["_see_loss", "_see_gradients", "_finish_step", "take", "batch", "_patch_all"])
def test_a_failing_tap_leaves_training_alone(
    part: str,
    contained: None,
    monkeypatch: pytest.MonkeyPatch,
    data: Any,
    make_model: Any,
    make_guard: Any,
    fit: Any,
) -> None:
    from failguard.keras.tap_tensorflow import TensorFlowTap

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("tap")

    monkeypatch.setattr(TensorFlowTap, part, broken)
    guard = make_guard()
    model = make_model()
    history = fit(model, data, guard)
    assert len(history.history["loss"]) == 2
    assert guard.report.part_errors
    assert guard.report.status is Status.COMPLETED
    assert "loss" in {row["name"] for row in guard.report.history}  # of the epochs, if not of the steps
    assert _is_clean(model)


def test_a_second_fit_starts_a_new_report(
    data: Any, make_model: Any, make_guard: Any, fit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    guard = make_guard()
    model = make_model()
    fit(model, data, guard, epochs=1)
    first = guard.report
    with caplog.at_level(logging.INFO, logger="failguard"):
        fit(model, data, guard, epochs=2)
    assert "used before" in caplog.text
    assert guard.report.run.record_id != first.run.record_id
    assert (first.progress.steps, guard.report.progress.steps) == (10, 20)


def test_only_the_first_of_two_guards_watches(
    data: Any, make_model: Any, make_guard: Any, fit: Any, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = make_guard(), make_guard()
    fit(make_model(), data, second, callbacks=[first])
    assert first.report.progress.steps == 20
    assert "more than one FailGuard" in caplog.text
    with pytest.raises(FailGuardError, match="no report yet"):
        _ = second.report


def test_the_same_guard_twice_counts_once(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    guard = make_guard()
    fit(make_model(), data, guard, callbacks=[guard])
    assert (guard.report.progress.steps, guard.report.progress.epochs) == (20, 2)
