"""Other models, data and ways to call: each is watched, or says why it is not."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from failguard import FailGuardError, Status
from failguard.keras import FailGuard

pytestmark = pytest.mark.framework


class OwnLoss(keras.Sequential):  # type: ignore[misc]
    """Goes around compute_loss."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, self(x, training=True), True))
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_weights), self.trainable_weights, strict=True)
        )
        return {"loss": loss}


class OwnStep(keras.Sequential):  # type: ignore[misc]
    """As Keras' guide has it: a step of its own with compute_loss and apply_gradients."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=y_pred)
        self.optimizer.apply_gradients(
            zip(tape.gradient(loss, self.trainable_weights), self.trainable_weights, strict=True)
        )
        return {"own_loss": loss}


class CompiledStep(OwnStep):
    """Compiles its step by itself, and with XLA."""

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


class TwoOptimizers(OwnLoss):
    """Leaves the compiled optimizer alone."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        for variable, grad in zip(self.trainable_weights, tape.gradient(loss, self.trainable_weights), strict=True):
            variable.assign_sub(0.01 * grad)
        return {"loss": loss}


@pytest.mark.parametrize("cls", [OwnLoss, CompiledStep])
def test_a_step_around_the_tap_is_watched_by_its_logs(
    cls: Any, data: Any, make_model: Any, make_guard: Any, fit: Any, series: Any
) -> None:
    guard = make_guard()
    fit(make_model(cls=cls), data, guard, validation_data=data)
    report = guard.report
    assert sum("compute_loss" in note for note in report.notes) == 1
    assert not report.facts.drops_bad_updates
    assert report.status is Status.COMPLETED
    assert report.progress.steps == 20
    assert series(report, "loss") == []
    assert "val_loss" in {row["name"] for row in report.history}


def test_a_custom_step_with_compute_loss_is_seen(
    data: Any, make_model: Any, make_guard: Any, fit: Any, series: Any
) -> None:
    guard = make_guard()
    fit(make_model(cls=OwnStep), data, guard)
    assert len(series(guard.report, "loss")) == len(series(guard.report, "gradient_norm")) == 20
    assert guard.report.notes == []


def test_without_the_optimizer_there_is_a_loss_and_no_norm(
    data: Any, make_model: Any, make_guard: Any, fit: Any, series: Any
) -> None:
    guard = make_guard()
    fit(make_model(cls=TwoOptimizers), data, guard)
    assert len(series(guard.report, "loss")) == 20
    assert series(guard.report, "gradient_norm") == []


def test_several_inputs_and_outputs_with_weights(make_guard: Any, series: Any) -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    joined = keras.layers.Concatenate()([a, b])
    model = keras.Model(
        [a, b], {"p": keras.layers.Dense(1, name="p")(joined), "q": keras.layers.Dense(3, name="q")(joined)}
    )
    model.compile("adam", {"p": "mse", "q": keras.losses.SparseCategoricalCrossentropy(from_logits=True)})
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(64, 4)), "b": rng.normal(size=(64, 2))}
    y = {"p": rng.normal(size=(64, 1)), "q": rng.integers(0, 3, 64)}
    x["a"][40, 0] = np.nan
    guard = make_guard()
    model.fit(x, y, batch_size=16, verbose=0, shuffle=False, callbacks=[guard])
    assert guard.report.root is not None
    assert (guard.report.root.step, guard.report.root.where.tensor) == (2, "input")
    assert guard.report.facts.loss_name == "mean_squared_error, sparse_categorical_crossentropy"
    assert guard.report.facts.trivial_loss is None
    assert len(series(guard.report, "loss")) == 3


def test_class_weights_leave_no_trivial_loss(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    plain, weighted = make_guard(), make_guard()
    fit(make_model(), data, plain, epochs=1)
    fit(make_model(), data, weighted, epochs=1, class_weight={0: 1.0, 1: 5.0, 2: 1.0})
    assert plain.report.facts.trivial_loss == pytest.approx(np.log(3), rel=0.05)
    assert weighted.report.facts.trivial_loss is None
    assert sum(plain.report.facts.class_counts.values()) >= 8 * 16
    assert plain.report.facts.batch_size == 16


def test_a_subclassed_model(data: Any, make_guard: Any, fit: Any, series: Any) -> None:
    class Net(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.one = keras.layers.Dense(8, activation="relu")
            self.two = keras.layers.Dense(1)

        def call(self, x: Any) -> Any:
            return self.two(self.one(x))

    x, _ = data
    model = Net()
    model.compile("adam", "mse")
    guard = make_guard()
    fit(model, (x, x[:, :1]), guard)
    assert len(series(guard.report, "loss")) == 20
    assert guard.report.facts.model.trainable_parameters == 65


def test_initial_epoch_is_the_plan_of_this_fit(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    guard = make_guard()
    fit(make_model(), data, guard, initial_epoch=3, epochs=5)
    assert guard.report.progress.planned_steps == guard.report.progress.steps == 20
    assert [row["start"] for row in guard.report.history if row["name"] == "train_loss"] == [3, 4]


def test_a_generator_of_unknown_length(data: Any, make_model: Any, make_guard: Any) -> None:
    x, y = data
    dataset = tf.data.Dataset.from_generator(
        lambda: ((x[i : i + 16], y[i : i + 16]) for i in range(0, 80, 16)),
        output_signature=(tf.TensorSpec((None, 6)), tf.TensorSpec((None,), tf.int32)),
    )
    guard = make_guard()
    make_model().fit(dataset, epochs=2, verbose=0, callbacks=[guard])
    assert guard.report.progress.steps == guard.report.progress.planned_steps == 10


def test_an_empty_dataset_is_said(make_model: Any, make_guard: Any) -> None:
    dataset = tf.data.Dataset.from_tensor_slices((np.zeros((8, 6), "float32"), np.zeros(8, "int32"))).batch(4).take(0)
    guard = make_guard()
    try:
        make_model().fit(dataset, verbose=0, callbacks=[guard])
    except Exception:
        pytest.skip("this Keras refuses an empty dataset by itself")
    assert any("No training batch was run" in note for note in guard.report.notes)


def test_a_model_without_trainable_weights_is_said(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    model = make_model()
    model.trainable = False
    model.compile("sgd", loss=model.loss)
    guard = make_guard()
    with pytest.warns(UserWarning, match="trainable weights"):
        fit(model, data, guard, epochs=1)
    assert any("no trainable parameters" in note for note in guard.report.notes)
    assert guard.report.progress.steps == 10


def test_a_monitor_that_never_appears_is_named(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    guard = make_guard(monitor="val_f1", patience=2)
    fit(make_model(metrics=["accuracy"]), data, guard, validation_data=data)
    notes = [note for note in guard.report.notes if "val_f1" in note]
    assert len(notes) == 1
    assert "val_accuracy" in notes[0]
    assert guard.report.status is Status.COMPLETED


def test_evaluate_and_predict_are_left_alone(data: Any, make_model: Any, make_guard: Any) -> None:
    guard = make_guard()
    model = make_model()
    model.evaluate(*data, verbose=0, callbacks=[guard])
    model.predict(data[0], verbose=0, callbacks=[guard])
    with pytest.raises(FailGuardError, match="no report yet"):
        _ = guard.report


def test_the_switch_in_the_environment(
    data: Any, make_model: Any, fit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("FAILGUARD_DISABLE", "1")
    model = make_model()
    inside = []
    look = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: inside.append("train_step" in model.__dict__))
    fit(model, data, FailGuard(), callbacks=[look])
    assert inside == [False, False]
    assert list(tmp_path.iterdir()) == []


def test_copies_before_and_after_a_fit(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    guard = copy.deepcopy(pickle.loads(pickle.dumps(make_guard(patience=4, monitor="loss"))))
    assert guard.settings.patience == 4
    fit(make_model(), data, guard)
    assert guard.report.status is Status.COMPLETED
    again = pickle.loads(pickle.dumps(guard))
    assert again.report.run.record_id == guard.report.run.record_id


def test_under_a_strategy_the_logs_are_watched(
    data: Any, make_model: Any, make_guard: Any, fit: Any, series: Any
) -> None:
    guard = make_guard()
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = make_model()
    fit(model, data, guard, validation_data=data)
    assert any("MirroredStrategy" in note for note in guard.report.notes)
    assert series(guard.report, "loss") == []
    assert guard.report.progress.steps == 20
    assert guard.report.best["epoch"] == 1


def test_the_facts(make_model: Any, make_guard: Any, data: Any, fit: Any) -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 100, 0.9)
    model = make_model(
        lambda: [
            keras.layers.Dense(8),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Dropout(0.25),
        ],
        optimizer=keras.optimizers.SGD(schedule, momentum=0.9, global_clipnorm=1.0),
    )
    guard = make_guard(monitor="loss")
    fit(model, data, guard)
    facts = guard.report.facts
    assert facts.framework == "keras"
    assert set(facts.versions) == {"keras", "tensorflow"}
    optimizer, net = facts.optimizer, facts.model
    assert (optimizer.name, optimizer.learning_rate, optimizer.momentum) == ("SGD", 0.01, 0.9)
    assert (optimizer.clipping, optimizer.schedule) == ("norm 1.0", "ExponentialDecay")
    assert (net.normalization, net.dropout, net.activations, net.output_width) == (True, 0.25, ("relu",), 3)
    assert net.trainable_parameters == 6 * 8 + 8 + 2 * 8 + 8 * 3 + 3
    assert (facts.steps_per_epoch, facts.max_epochs, facts.loss_name) == (10, 2, "sparse_categorical_crossentropy")
    assert facts.config["learning_rate"] == 0.01
