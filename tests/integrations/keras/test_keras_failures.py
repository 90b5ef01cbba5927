"""Trainings that fail: what is found, where, and in which state the model is left."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest

from failguard import Status
from failguard.keras import FailGuard

pytestmark = pytest.mark.framework

BAD = 7  # the batch that goes wrong, of ten


def _with_bad_input(data: Any, value: float = math.nan) -> Any:
    x, y = data
    x = x.copy()
    x[BAD * 16 + 2, 1] = value
    return x, y


def _root(report: Any) -> Any:
    assert report.root is not None
    return report.root


@pytest.mark.parametrize(
    "compiling",
    [
        {},
        {"jit_compile": True},
        {"steps_per_execution": 16},
        {"steps_per_execution": 4, "jit_compile": True},
        {"run_eagerly": True},
    ],
    ids=["plain", "xla", "steps-per-execution", "xla-steps-per-execution", "eager"],
)
def test_a_corrupted_batch_stops_the_run_before_its_update(
    compiling: Any, data: Any, make_model: Any, make_guard: Any, fit: Any, state: Any, all_finite: Any
) -> None:
    def layers() -> list[Any]:
        return [keras.layers.Dense(8, activation="tanh"), keras.layers.BatchNormalization()]

    guard = make_guard()
    model = make_model(layers, **compiling)
    history = fit(model, _with_bad_input(data), guard, validation_data=data)
    report = guard.report
    assert report.status is Status.STOPPED
    # Under XLA with several steps a call no batch is read.
    code = "loss.non_finite" if "jit_compile" in compiling and len(compiling) > 1 else "data.non_finite"
    assert (_root(report).code, _root(report).step) == (code, BAD)
    assert (_root(report).where.tensor, _root(report).where.batch) == ("input", BAD)
    assert next(f.step for f in report.findings if f.code == "loss.non_finite") == BAD
    assert [a.what for a in report.actions] == ["stop", "drop_update"]
    assert all_finite(model)
    assert len(history.history["loss"]) == 1
    assert math.isfinite(history.history["val_loss"][0])
    assert any("moving statistics" in note for note in report.notes)
    assert report.part_errors == []
    assert report.diagnosis.causes[0].code == "corrupted_batch"
    if compiling in ({}, {"run_eagerly": True}, {"jit_compile": True}):
        assert report.progress.steps == BAD + 1
        # The model is where it was after the last good batch, but for the statistics.
        untouched = make_model(layers, **compiling)
        fit(untouched, data, epochs=1, callbacks=[_stop_after(BAD)])
        for a, b in zip(model.trainable_variables, untouched.trainable_variables, strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(model.optimizer.variables, untouched.optimizer.variables, strict=True):
            np.testing.assert_array_equal(a, b)


def _stop_after(batches: int) -> Any:
    class Stop(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.model.stop_training = batch == batches - 1

    return Stop()


def test_under_observe_nothing_is_done(data: Any, make_model: Any, make_guard: Any, fit: Any, all_finite: Any) -> None:
    guard = make_guard(policy="observe")
    model = make_model()
    fit(model, _with_bad_input(data), guard)
    report = guard.report
    assert not report.facts.drops_bad_updates
    assert (_root(report).code, _root(report).step) == ("data.non_finite", BAD)
    assert report.actions == []
    assert report.progress.steps == 20
    assert not all_finite(model)
    assert report.status is Status.FAILED
    assert any("weights are not finite" in note for note in report.notes)


def test_a_code_that_is_ignored_stops_nothing(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    codes = ["loss.non_finite", "gradient.non_finite", "weights.non_finite", "metric.non_finite", "data.non_finite"]
    guard = make_guard(ignore=codes)
    fit(make_model(), _with_bad_input(data), guard)
    assert guard.report.findings == []
    assert guard.report.progress.steps == 20


@keras.saving.register_keras_serializable("failguard_tests")
class Rooted(keras.layers.Layer):
    """Fine forward, Inf backward where an input is exactly zero; NaN forward where it is below."""

    def call(self, inputs: Any) -> Any:
        return keras.ops.sqrt(inputs)


def _rooted_model(make_model: Any) -> Any:
    return make_model(
        lambda: [keras.layers.Dense(4, activation="relu", name="first"), Rooted(name="root")],
        optimizer=keras.optimizers.SGD(0.0),
    )


def test_a_bad_gradient_behind_a_finite_loss_is_placed(
    data: Any, make_model: Any, make_guard: Any, fit: Any, all_finite: Any
) -> None:
    # relu gives exact zeros, the root of zero is zero, and its slope is infinite
    guard = make_guard()
    model = _rooted_model(make_model)
    fit(model, data, guard, epochs=1)
    root = _root(guard.report)
    assert (root.code, root.step) == ("gradient.non_finite", 0)
    assert root.where.tensor == "gradient"
    assert root.where.module is not None
    assert root.where.module.endswith("first")
    assert all_finite(model)


def test_the_first_layer_with_a_bad_output_is_named(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    def layers() -> list[Any]:
        return [
            keras.layers.Dense(4, name="first"),
            keras.layers.Dropout(0.5),
            Rooted(name="root"),
            keras.layers.Dense(4, name="later"),
        ]

    guard = make_guard()
    model = make_model(layers)
    seed = [np.array(keras.ops.convert_to_numpy(v)) for v in model.non_trainable_variables]
    fit(model, data, guard, epochs=1)
    root = _root(guard.report)
    assert (root.code, root.step) == ("loss.non_finite", 0)
    assert (root.where.module.rpartition("/")[2], root.where.tensor) == ("root", "output")
    # Looking again left the stream of the dropout where one step had put it.
    once = make_model(layers)
    once(data[0][:16], training=True)
    for before, a, b in zip(seed, model.non_trainable_variables, once.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(before, a)


def test_a_bad_target_is_named(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    x, _ = data
    y = x[:, :3].copy()
    y[BAD * 16] = np.inf
    guard = make_guard()
    fit(make_model(loss="mse"), (x, y), guard)
    assert (_root(guard.report).step, _root(guard.report).where.tensor) == (BAD, "target")


def test_bad_data_in_the_first_batches_is_a_warning_of_its_own(
    data: Any, make_model: Any, make_guard: Any, fit: Any
) -> None:
    x, y = data
    x = x.copy()
    x[0, 0] = np.inf  # tanh makes it one
    found = {}
    for check in (True, False):
        guard = make_guard(check_data=check, policy="observe")
        fit(make_model(), (x, y), guard, epochs=1)
        found[check] = [f.code for f in guard.report.findings]
    assert "data.non_finite" in found[True]
    assert "data.non_finite" not in found[False]


def test_a_rate_far_too_high_diverges(make_model: Any, make_guard: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(640, 6)).astype("float32")
    y = x[:, :3].argmax(axis=1)
    guard = make_guard()
    model = make_model(optimizer=keras.optimizers.SGD(100.0))
    model.fit(x, y, batch_size=16, epochs=5, verbose=0, callbacks=[guard])
    report = guard.report
    assert report.status is Status.STOPPED
    assert _root(report).code == "loss.divergence"
    assert report.diagnosis.causes[0].code == "learning_rate_too_high"
    assert report.progress.steps < 200


def test_shuffled_labels_are_not_learned(make_model: Any, make_guard: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(512, 6)).astype("float32"), rng.integers(0, 3, 512)
    guard = make_guard(policy="strict")
    model = make_model(metrics=["accuracy"])
    model.fit(x, y, validation_data=(x[:128], y[::-1][:128]), batch_size=16, epochs=20, verbose=0, callbacks=[guard])
    report = guard.report
    assert _root(report).code == "loss.no_learning"
    assert report.status is Status.STOPPED
    assert report.facts.trivial_loss_source == "class_prior"


def test_early_stopping_puts_the_best_epoch_back(make_model: Any, make_guard: Any) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(48, 6)).astype("float32"), rng.integers(0, 3, 48)
    xv, yv = rng.normal(size=(48, 6)).astype("float32"), rng.integers(0, 3, 48)

    def train(*callbacks: Any) -> Any:
        model = make_model(
            lambda: [keras.layers.Dense(64, activation="relu"), keras.layers.BatchNormalization()],
            optimizer=keras.optimizers.Adam(0.02),
        )
        model.fit(x, y, validation_data=(xv, yv), batch_size=16, epochs=30, verbose=0, callbacks=list(callbacks))
        return model

    kept = []
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: kept.append(keep.model.get_weights()))
    guard = make_guard(patience=3)
    model = train(keep, guard)
    # The same numbers as Keras' own callback.
    theirs = keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)
    reference = train(theirs)
    report = guard.report
    assert report.status is Status.STOPPED
    assert {f.code for f in report.findings} <= {"metric.no_improvement", "metric.overfitting"}
    assert len(kept) == theirs.stopped_epoch + 1 == report.best["epoch"] + 4
    for a, best, b in zip(model.get_weights(), kept[report.best["epoch"]], reference.get_weights(), strict=True):
        np.testing.assert_array_equal(a, best)
        np.testing.assert_array_equal(a, b)
    assert "restore_best_weights" in [a.what for a in report.actions]


def test_a_bad_validation_is_found_and_does_not_stop(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    x, y = data
    guard = make_guard()
    fit(make_model(), data, guard, validation_data=(np.full_like(x, np.nan), y))
    assert [f.code for f in guard.report.findings] == ["metric.non_finite"]
    assert guard.report.progress.steps == 20
    assert "train_loss" in {row["name"] for row in guard.report.history}


def test_an_overflow_under_loss_scaling_is_no_failure(
    data: Any, make_model: Any, make_guard: Any, fit: Any, all_finite: Any
) -> None:
    guard = make_guard()
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**127)
    model = make_model(optimizer=optimizer)
    fit(model, data, guard, epochs=1)
    report = guard.report
    assert report.facts.loss_scaled
    assert all(f.severity.value == "info" for f in report.findings)
    assert report.progress.steps == 10
    assert all_finite(model)


def test_a_loss_scale_that_collapses_is_named(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    def overflowing(y: Any, p: Any) -> Any:
        loss = keras.losses.sparse_categorical_crossentropy(y, p)
        return loss + keras.ops.sqrt(keras.ops.relu(-loss))  # a finite loss whose gradient is 0 * inf

    guard = make_guard()
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**12)
    model = make_model(optimizer=optimizer)
    model.compile(optimizer=optimizer, loss=overflowing)
    fit(model, data, guard, epochs=4)
    assert guard.report.root is not None
    assert guard.report.root.code == "amp.scale_collapse"


def test_raise_on_failure(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    from failguard import TrainingFailure

    guard = make_guard(raise_on_failure=True)
    model = make_model()
    with pytest.raises(TrainingFailure) as raised:
        fit(model, _with_bad_input(data), guard)
    assert raised.value.report is guard.report
    assert "train_step" not in model.__dict__
    with pytest.raises(TrainingFailure), guard:
        fit(make_model(), _with_bad_input(data), guard)


@pytest.mark.parametrize("steps", [1, 4])
def test_under_xla_a_bad_first_batch_leaves_the_optimizer_as_it_was(steps: int, all_finite: Any) -> None:
    x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    y = x.sum(1)
    x[3, 1] = np.nan
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    model.compile("adam", "mse", jit_compile=True, steps_per_execution=steps)
    guard = FailGuard(sinks=[])
    model.fit(x, y, batch_size=16, shuffle=False, verbose=0, callbacks=[guard])
    assert guard.report.status is Status.STOPPED
    assert all_finite(model)
    assert all(np.isfinite(np.asarray(v)).all() for v in model.optimizer.variables)
