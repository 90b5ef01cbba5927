"""What is seen inside a Keras model in a real fit, and that looking changes nothing."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
keras = pytest.importorskip("keras")

import numpy as np  # noqa: E402

from failguard.core.finding import Severity  # noqa: E402
from failguard.keras import FailGuard  # noqa: E402

pytestmark = pytest.mark.framework

Dense = keras.layers.Dense
RNG = np.random.default_rng(0)
X = RNG.standard_normal((480, 8)).astype("float32")
CLASSES = (X[:, 0] > 0).astype("int64") + (X[:, 1] > 0)
VALUES = (X[:, :1] - X[:, 1:2]).astype("float32")


def fit(layers, loss, y, *, guarded=True, x=X, epochs=8, optimizer="adam", shuffle=True, batch=16, **compiled):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), *layers()])
    model.compile(optimizer, loss, **compiled)
    guard = FailGuard(sinks=[], resources=False, policy="observe")
    model.fit(
        x[:320],
        y[:320],
        validation_data=(x[320:], y[320:]),
        batch_size=batch,
        epochs=epochs,
        verbose=0,
        shuffle=shuffle,
        callbacks=[guard] if guarded else [],
    )
    return model, guard


def alarms(guard):
    assert guard.report.part_errors == []
    return [f.code for f in guard.report.findings if f.severity is not Severity.INFO]


SPARSE = "sparse_categorical_crossentropy"


def test_a_healthy_fit_is_silent_and_was_looked_into():
    def layers():
        return [Dense(16, "relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.2), Dense(3, "softmax")]

    model, guard = fit(layers, SPARSE, CLASSES)
    assert alarms(guard) == []
    assert guard.report.overhead.cadence_steps["internals"] >= 24
    plain, _ = fit(layers, SPARSE, CLASSES, guarded=False)
    for a, b in zip(plain.weights, model.weights, strict=True):
        assert np.array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b)), a.path


@pytest.mark.filterwarnings("ignore:You are using a softmax", "ignore:.*received `from_logits=True`")
@pytest.mark.parametrize(
    ("layers", "loss", "y", "cause"),
    [
        (lambda: [Dense(16, "relu"), Dense(1, "softmax")], "mse", VALUES, "output_activation_mismatch"),
        (lambda: [Dense(16, "relu"), Dense(1, "relu")], "mse", VALUES, "output_activation_mismatch"),
        (lambda: [Dense(16, "relu"), Dense(3)], SPARSE, CLASSES, "loss_function_mismatch"),
        (lambda: [Dense(16, "relu"), Dense(3, "relu")], SPARSE, CLASSES, "loss_function_mismatch"),
        (
            lambda: [Dense(16, "relu"), Dense(3, "softmax")],
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            CLASSES,
            "output_activation_mismatch",
        ),
        (
            lambda: [Dense(16, "relu"), Dense(3, "sigmoid"), keras.layers.Softmax()],
            SPARSE,
            CLASSES,
            "output_activation_mismatch",
        ),
        (
            lambda: [Dense(16, "relu"), Dense(3, lambda x: keras.ops.softmax(x, axis=0))],
            SPARSE,
            CLASSES,
            "output_activation_mismatch",
        ),
        (
            lambda: [Dense(16, "relu"), Dense(3, keras.ops.hard_sigmoid)],
            SPARSE,
            CLASSES,
            "loss_function_mismatch",
        ),
        (
            lambda: [Dense(16, "relu"), Dense(3, "softmax")],
            "mean_absolute_percentage_error",
            np.eye(3, dtype="float32")[CLASSES],
            "loss_function_mismatch",
        ),
    ],
    ids=[
        "softmax of one unit",
        "relu for negative targets",
        "logits as probabilities",
        "relu for classes",
        "softmax twice",
        "softmax of sigmoids",
        "softmax over the samples",
        "no distribution over the classes",
        "percentages of zeros",
    ],
)
def test_outputs_that_do_not_fit(layers, loss, y, cause):
    _, guard = fit(layers, loss, y)
    assert guard.report.root.code == "model.output_mismatch"
    assert guard.report.diagnosis.likely_cause == cause


@pytest.mark.parametrize("compiled", [{}, {"steps_per_execution": 4}], ids=["plain", "4"])
def test_dead_units_are_the_root_of_not_learning(compiled):
    _, guard = fit(
        lambda: [Dense(16, "relu", bias_initializer=keras.initializers.Constant(-100.0)), Dense(3, "softmax")],
        SPARSE,
        CLASSES,
        epochs=10,
        **compiled,
    )
    assert guard.report.root.code == "activation.dead"
    assert "loss.no_learning" in alarms(guard)
    assert "weights.frozen" not in alarms(guard)


def test_sorted_batches():
    order = np.argsort(CLASSES[:320], kind="stable")
    x, y = X.copy(), CLASSES.copy()
    x[:320], y[:320] = X[order], CLASSES[order]
    _, guard = fit(lambda: [Dense(16, "relu"), Dense(3, "softmax")], SPARSE, y, x=x, shuffle=False, batch=64)
    assert guard.report.root.code == "data.unshuffled"
    assert guard.report.diagnosis.likely_cause == "unshuffled_data"


class Modes(keras.Model):
    """Passes a mode of its own to what acts differently in training."""

    def __init__(self, mode, **body):
        super().__init__()
        self.mode = mode
        self.body = keras.Sequential([Dense(16, "relu"), keras.layers.BatchNormalization()], **body)
        self.drop = keras.layers.Dropout(0.3)
        self.head = Dense(3, "softmax")

    def call(self, x, training=False):
        mode = training if self.mode is None else self.mode
        return self.head(self.drop(self.body(x, training=mode), training=mode))


def fit_modes(model, y=CLASSES, epochs=3):
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.Adam(1e-2), SPARSE)
    guard = FailGuard(sinks=[], resources=False, policy="observe")
    model.fit(X[:320], y[:320], validation_data=(X[320:], y[320:]), epochs=epochs, verbose=0, callbacks=[guard])
    assert not any("call" in layer.__dict__ for layer in model._flatten_layers())
    return guard.report


def test_modes_that_are_passed_on_are_right():
    setup = fit_modes(Modes(None)).facts.setup
    assert not setup.trains_in_eval_mode
    assert not setup.evaluates_in_train_mode


def test_dropout_in_validation_is_named():
    report = fit_modes(Modes(True))
    assert report.facts.setup.evaluates_in_train_mode
    assert report.root.code == "model.wrong_mode"
    assert report.diagnosis.causes[0].code == "wrong_mode"


def test_training_in_inference_mode_is_an_alarm_where_nothing_is_learned():
    noise = np.random.default_rng(1).permutation(CLASSES)
    report = fit_modes(Modes(False), noise, epochs=30)
    assert report.facts.setup.trains_in_eval_mode
    assert report.root.code == "model.wrong_mode"


def test_training_in_inference_mode_that_learns_is_evidence_only():
    report = fit_modes(Modes(False), epochs=12)
    assert report.facts.setup.trains_in_eval_mode
    assert [f.severity for f in report.findings if f.code == "model.wrong_mode"] == [Severity.INFO]


def test_a_frozen_body_in_inference_mode_is_in_order():
    model = Modes(False)
    model.body.trainable = False
    model.drop.trainable = False
    assert not fit_modes(model).facts.setup.trains_in_eval_mode


def frozen_body(layers):
    for layer in layers[:-1]:
        layer.trainable = False
    return layers


def test_a_body_that_was_frozen_before_anything_trained_it():
    body = [Dense(32, "relu"), Dense(32, "relu")]
    _, guard = fit(lambda: frozen_body([*body, Dense(3, "softmax")]), SPARSE, CLASSES)
    assert guard.report.root.code == "weights.frozen"
    assert guard.report.diagnosis.likely_cause == "frozen_parameters"


def test_a_random_projection_is_in_order():
    _, guard = fit(lambda: frozen_body([Dense(64, "tanh"), Dense(3, "softmax")]), SPARSE, CLASSES)
    assert alarms(guard) == []


def test_a_head_on_a_trained_body_is_in_order():
    body = [Dense(32, "relu"), Dense(32, "relu")]
    fit(lambda: [*body, Dense(3, "softmax")], SPARSE, CLASSES)
    _, guard = fit(lambda: frozen_body([*body, Dense(3, "softmax")]), SPARSE, CLASSES)
    assert alarms(guard) == []


def squares_of_column(y, p):
    return keras.ops.mean((y - p[:, 0]) ** 2)


def test_a_loss_of_ones_own_that_compares_all_with_all_is_named():
    _, guard = fit(lambda: [Dense(16, "relu"), Dense(1)], squares_of_column, VALUES[:, 0])
    assert guard.report.root.code == "model.output_mismatch"
    assert guard.report.diagnosis.causes[0].code == "shape_mismatch"


@pytest.mark.parametrize(
    "loss",
    [
        lambda y, p: keras.ops.mean((y - p) ** 2),
        lambda y, p: keras.ops.mean((y[:, 0] - p[:, 0]) ** 2),
        lambda y, p: keras.ops.mean((p - keras.ops.transpose(p)) ** 2) + keras.ops.mean((y - p) ** 2),  # pairs, meant
        lambda y, p: keras.ops.mean(keras.ops.cast(keras.ops.argmax(y, -1), "float32") * p[:, 0] + (y - p)[:, 0] ** 2),
    ],
)
def test_other_losses_of_ones_own_are_not(loss):
    _, guard = fit(lambda: [Dense(16, "relu"), Dense(1)], loss, VALUES[:, 0], epochs=2)
    assert not guard.report.facts.output.is_broadcast
    assert guard.report.part_errors == []


@pytest.mark.parametrize("jit", [False, True])
def test_weights_that_rest_between_accumulated_updates_are_not_frozen(jit, monkeypatch):
    from failguard.guard import Guard

    readings = []
    record = Guard.record_internals

    def recorded(self, reading, cost_s=0.0):
        readings.append(reading)
        record(self, reading, cost_s)

    monkeypatch.setattr(Guard, "record_internals", recorded)
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(640, 8)).astype("float32")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(1e-2, gradient_accumulation_steps=4), "mse", jit_compile=jit)
    guard = FailGuard(sinks=[])
    model.fit(x, x.sum(1), batch_size=16, epochs=4, verbose=0, callbacks=[guard])
    norms = [layer.update_norm for r in readings for layer in r.layers]
    assert len(norms) >= 4
    assert all(norm > 0 for norm in norms)
    assert all(f.code != "weights.frozen" for f in guard.report.findings)
