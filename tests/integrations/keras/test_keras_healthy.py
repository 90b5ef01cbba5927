"""Watching a healthy run changes nothing and sees the true values."""

from __future__ import annotations

import re
import zipfile
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from failguard import Status

pytestmark = pytest.mark.framework


def _assert_same(first: list[Any], second: list[Any]) -> None:
    """Equal to the last bit."""
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def _with_statistics_and_dropout() -> list[Any]:
    return [
        keras.layers.Dense(8, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3),
    ]


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
def test_a_run_is_bit_identical_with_and_without_the_guard(
    compiling: Any, data: Any, make_model: Any, make_guard: Any, fit: Any, state: Any, series: Any
) -> None:
    runs, histories = [], []
    guard = make_guard(ignore=["data.leakage"])  # the validation is on the training data
    for watching in (None, guard):
        model = make_model(
            _with_statistics_and_dropout,
            metrics=["accuracy"],
            **compiling,
        )
        history = fit(model, data, watching, validation_data=data, shuffle=True)
        runs.append(state(model))
        histories.append(history.history)
    _assert_same(*runs)
    assert histories[0] == histories[1]
    report = guard.report
    assert report.status is Status.COMPLETED
    assert report.findings == []
    assert report.part_errors == []
    assert (report.progress.steps, report.progress.planned_steps, report.progress.epochs) == (20, 20, 2)
    assert len(series(report, "loss")) == len(series(report, "gradient_norm")) == 20
    assert report.facts.drops_bad_updates


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.05, momentum=0.9, gradient_accumulation_steps=2, clipnorm=0.1),
        lambda: keras.optimizers.AdamW(1e-2, use_ema=True, ema_overwrite_frequency=3),
        lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05)),
    ],
    ids=["accumulation", "ema", "loss-scale"],
)
def test_so_it_is_with_other_optimizers(
    optimizer: Any, data: Any, make_model: Any, make_guard: Any, fit: Any, state: Any, series: Any
) -> None:
    runs = []
    guard = make_guard()
    for watching in (None, guard):
        model = make_model(optimizer=optimizer())
        fit(model, data, watching, epochs=1)
        runs.append(state(model))
    _assert_same(*runs)
    assert guard.report.part_errors == []
    assert 0.01 < series(guard.report, "gradient_norm")[0] < 10.0  # unscaled


@pytest.mark.parametrize("compiling", [{}, {"jit_compile": True}], ids=["plain", "xla"])
def test_losses_and_norms_are_those_of_each_batch(
    compiling: Any, data: Any, make_model: Any, make_guard: Any, fit: Any, series: Any
) -> None:
    x, y = data
    by_hand = make_model(optimizer=keras.optimizers.SGD(0.5))
    losses, norms = [], []
    for i in range(0, len(x), 16):
        with tf.GradientTape() as tape:
            loss = by_hand.loss(y[i : i + 16], by_hand(x[i : i + 16]))
        variables = [v.value for v in by_hand.trainable_variables]
        grads = tape.gradient(loss, variables)
        losses.append(float(loss))
        norms.append(float(tf.linalg.global_norm(grads)))
        for variable, grad in zip(variables, grads, strict=True):
            variable.assign_sub(0.5 * grad)

    guard = make_guard()
    fit(make_model(optimizer=keras.optimizers.SGD(0.5), **compiling), data, guard, epochs=1)
    np.testing.assert_allclose(series(guard.report, "loss"), losses, rtol=1e-4)
    np.testing.assert_allclose(series(guard.report, "gradient_norm"), norms, rtol=1e-4)


def test_weights_that_are_looked_up_have_a_norm_too(make_guard: Any, series: Any) -> None:
    model = keras.Sequential([keras.layers.Embedding(20, 4), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    guard = make_guard()
    x, y = np.arange(64).reshape(32, 2) % 20, np.ones((32, 1), "float32")
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[guard])
    assert all(norm > 0 for norm in series(guard.report, "gradient_norm"))
    assert guard.report.facts.target_kind == "continuous"


def test_nothing_is_left_on_the_model(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    model = make_model()
    before = set(model.__dict__), set(model.optimizer.__dict__), model.metrics_names
    names_inside = []
    fit(
        model,
        data,
        make_guard(),
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: names_inside.append(model.metrics_names))],
    )
    assert names_inside == [model.metrics_names] * 2
    added = set(model.__dict__) - before[0], set(model.optimizer.__dict__) - before[1]
    assert not {"compute_loss", "train_step"} & added[0]
    assert "apply" not in added[1]
    assert not hasattr(model.train_function, "failguard_tap")


def test_files_saved_during_a_watched_fit_are_the_same(
    data: Any, make_model: Any, make_guard: Any, fit: Any, tmp_path: Any
) -> None:
    for name, guard in (("without", None), ("with", make_guard())):
        checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / f"{name}.keras"))
        fit(make_model(), data, guard, callbacks=[checkpoint], epochs=1)
    parts = []
    for name in ("without", "with"):
        with zipfile.ZipFile(tmp_path / f"{name}.keras") as archive:
            files = {n: archive.read(n) for n in archive.namelist() if n != "metadata.json"}  # holds the date
        files["config.json"] = re.sub(rb'"shared_object_id": \d+', b"", files["config.json"])  # an address in memory
        parts.append(files)
    assert parts[0] == parts[1]
    assert "model.weights.h5" in parts[0]


def test_train_loss_is_the_mean_over_steps_and_metrics_keep_their_names(
    data: Any, make_model: Any, make_guard: Any, fit: Any, series: Any
) -> None:
    guard = make_guard(monitor="val_accuracy", mode="max")
    history = fit(make_model(metrics=["accuracy"]), data, guard, validation_data=data, validation_freq=2, epochs=4)
    per_epoch = {
        name: [r["mean"] for r in guard.report.history if r["name"] == name and r["per"] == "epoch"]
        for name in ("train_loss", "loss", "val_accuracy")
    }
    losses = series(guard.report, "loss")
    np.testing.assert_allclose(per_epoch["train_loss"], np.mean(np.reshape(losses, (4, 10)), axis=1), rtol=1e-6)
    assert per_epoch["loss"] == history.history["loss"]
    assert per_epoch["val_accuracy"] == history.history["val_accuracy"]
    assert len(per_epoch["val_accuracy"]) == 2  # every other epoch
    assert guard.report.best["epoch"] in (1, 3)
