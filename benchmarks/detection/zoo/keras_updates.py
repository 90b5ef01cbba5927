"""Keras programs whose updates are wrong: rates, initial values, parts that do not learn, regularization."""

from __future__ import annotations

from typing import Any

import keras
from benchmarks.detection import data as sets
from benchmarks.detection.program import case
from benchmarks.detection.zoo.keras_common import Dense, accuracy, classifier, fit, r2, regressor, sequential
from keras import ops

BLOWN = "loss.divergence loss.non_finite gradient.exploding weights.non_finite gradient.non_finite"
WAKE = "loss.spike loss.no_learning update.too_large activation.dead metric.non_finite loss.oscillation"
STUCK = "loss.plateau metric.degenerate_predictions"
SGD = keras.optimizers.SGD
Adam = keras.optimizers.Adam


@case("keras/rate-far-too-high", BLOWN, "learning_rate_too_high", also=WAKE + " " + STUCK)
def rate_far_too_high(watch: Any, fault: bool, seed: int) -> float:
    """SGD with a rate of 5 on a regression (DeepCrime: rate)."""
    d = sets.regression(seed)
    return r2(fit(regressor(12, 32, optimizer=SGD(5.0 if fault else 0.05)), d, watch, 15), d)


@case(
    "keras/adam-rate-too-high",
    "loss.no_learning loss.divergence update.too_large activation.dead",
    "learning_rate_too_high dead_units",
    also=WAKE + " loss.plateau metric.degenerate_predictions gradient.exploding gradient.vanishing gradient.missing",
)
def adam_rate_too_high(watch: Any, fault: bool, seed: int) -> float:
    """Adam with a rate of 1."""
    d = sets.digits(seed)
    return accuracy(fit(classifier(64, 10, 64, 64, optimizer=Adam(1.0 if fault else 1e-3)), d, watch, 12), d)


@case(
    "keras/rate-too-low",
    "loss.no_learning update.too_small",
    "learning_rate_too_low too_few_updates",
    also="loss.plateau",
)
def rate_too_low(watch: Any, fault: bool, seed: int) -> float:
    """Adam with a rate of 1e-7 (50306988)."""
    d = sets.digits(seed)
    return accuracy(fit(classifier(64, 10, 64, optimizer=Adam(1e-7 if fault else 2e-3)), d, watch, 12), d)


@case(
    "keras/one-batch-an-epoch",
    "loss.no_learning update.too_small",
    "too_few_updates learning_rate_too_low batch_size_too_large",
    also="loss.plateau",
)
def one_batch_an_epoch(watch: Any, fault: bool, seed: int) -> float:
    """The whole set is one batch, ten epochs are ten updates of the default SGD (44164749, 44998910)."""
    d = sets.digits(seed)
    model = classifier(64, 10, 64, optimizer=SGD(0.01 if fault else 0.05))
    return accuracy(fit(model, d, watch, 10, batch=2000 if fault else 16), d)


@case(
    "keras/l2-too-strong",
    "loss.no_learning loss.plateau",
    "too_much_regularization",
    also=STUCK + " activation.dead gradient.vanishing update.too_small",
)
def l2_too_strong(watch: Any, fault: bool, seed: int) -> float:
    """kernel_regularizer=l2(1.0) (DeepCrime: L2)."""
    d = sets.digits(seed)
    model = classifier(64, 10, 64, 64, kernel_regularizer=keras.regularizers.l2(1.0 if fault else 1e-5))
    return accuracy(fit(model, d, watch, 12), d)


@case(
    "keras/l1-too-strong",
    "loss.no_learning loss.plateau",
    "too_much_regularization",
    also=STUCK + " activation.dead gradient.vanishing update.too_small loss.oscillation",
)
def l1_too_strong(watch: Any, fault: bool, seed: int) -> float:
    """kernel_regularizer=l1(0.3) on every layer of a regression (DeepCrime: L1)."""
    d = sets.regression(seed)
    strength = keras.regularizers.l1(0.3 if fault else 1e-6)
    hidden = Dense(32, activation="relu", kernel_regularizer=strength)
    model = sequential(12, hidden, Dense(1, kernel_regularizer=strength))
    model.compile(Adam(3e-3), "mse")
    return r2(fit(model, d, watch, 15), d)


@case(
    "keras/dropout-before-norm",
    "loss.no_learning loss.plateau",
    "too_much_regularization",
    also=STUCK + " metric.overfitting",
)
def dropout_before_norm(watch: Any, fault: bool, seed: int) -> float:
    """Dropout of 0.95 before batch norm, several times (60566498)."""
    d = sets.digits(seed)
    hidden = []
    for _ in range(3):
        hidden += [
            Dense(32, activation="relu"),
            keras.layers.Dropout(0.95 if fault else 0.1),
            keras.layers.BatchNormalization(),
        ]
    model = sequential(64, *hidden, Dense(10, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 12), d)


@case(
    "keras/clipped-to-nothing",
    "loss.no_learning update.too_small loss.plateau",
    "learning_rate_too_low too_few_updates",
)
def clipped_to_nothing(watch: Any, fault: bool, seed: int) -> float:
    """SGD(clipnorm=1e-5) (DeepCrime: clipping)."""
    d = sets.digits(seed)
    model = classifier(64, 10, 64, optimizer=SGD(0.1, clipnorm=1e-5 if fault else 1.0))
    return accuracy(fit(model, d, watch, 15), d)


@case(
    "keras/zero-init",
    "loss.no_learning metric.degenerate_predictions gradient.vanishing activation.dead",
    "bad_initialization dead_units",
    also="gradient.missing weights.frozen update.too_small loss.plateau",
)
def zero_init(watch: Any, fault: bool, seed: int) -> float:
    """kernel_initializer='zeros' in every layer (DeepCrime: init)."""
    d = sets.digits(seed)
    kernel = "zeros" if fault else "glorot_uniform"
    hidden = [Dense(64, activation="relu", kernel_initializer=kernel) for _ in range(2)]
    model = sequential(64, *hidden, Dense(10, activation="softmax", kernel_initializer=kernel))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 12), d)


@case(
    "keras/wide-init",
    BLOWN,
    "bad_initialization learning_rate_too_high",
    also=WAKE + " " + STUCK + " gradient.vanishing",
)
def wide_init(watch: Any, fault: bool, seed: int) -> float:
    """RandomNormal(stddev=1) in three layers of 300 (TheDeepChecker; DeepCrime: init)."""
    d = sets.digits(seed)
    kernel = keras.initializers.RandomNormal(stddev=1.0, seed=seed) if fault else "glorot_uniform"
    model = classifier(64, 10, 300, 300, 300, optimizer=SGD(0.05), kernel_initializer=kernel)
    return accuracy(fit(model, d, watch, 8), d)


@case(
    "keras/saturated-tanh",
    "activation.saturated loss.no_learning gradient.vanishing",
    "saturating_activations bad_initialization",
    also=STUCK + " update.too_small loss.oscillation",
)
def saturated_tanh(watch: Any, fault: bool, seed: int) -> float:
    """Tanh units pinned by weights of deviation 8."""
    d = sets.digits(seed)
    kernel = keras.initializers.RandomNormal(stddev=8.0, seed=seed) if fault else "glorot_uniform"
    model = classifier(64, 10, 64, 64, 64, activation="tanh", optimizer=SGD(0.05), kernel_initializer=kernel)
    return accuracy(fit(model, d, watch, 12), d)


@case(
    "keras/dead-relu",
    "activation.dead loss.no_learning",
    "dead_units bad_initialization",
    also=STUCK + " gradient.vanishing gradient.missing weights.frozen update.too_small",
)
def dead_relu(watch: Any, fault: bool, seed: int) -> float:
    """Biases of -20 keep every unit of the second layer at zero (DeepCrime: bias)."""
    d = sets.digits(seed)
    bias = keras.initializers.Constant(-20.0) if fault else "zeros"
    model = sequential(
        64,
        Dense(64, activation="relu"),
        Dense(64, activation="relu", bias_initializer=bias),
        Dense(10, activation="softmax"),
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 12), d)


@case(
    "keras/deep-sigmoid",
    "gradient.vanishing loss.no_learning",
    "too_deep_without_normalization saturating_activations",
    also=STUCK + " activation.saturated update.too_small",
)
def deep_sigmoid(watch: Any, fault: bool, seed: int) -> float:
    """Ten sigmoid layers; the twin has two of them (DeepCrime: activation)."""
    d = sets.digits(seed)
    model = classifier(64, 10, *[48] * (10 if fault else 1), activation="sigmoid", optimizer=Adam(3e-3))
    return accuracy(fit(model, d, watch, 10), d)


@case(
    "keras/frozen-body",
    "weights.frozen gradient.missing",
    "frozen_parameters",
    also="loss.plateau loss.no_learning",
)
def frozen_body(watch: Any, fault: bool, seed: int) -> float:
    """trainable=False on layers with random weights."""
    d = sets.digits(seed)
    body = [Dense(32, activation="relu"), Dense(8, activation="relu")]
    model = sequential(64, *body, Dense(10, activation="softmax"))
    for layer in body:
        layer.trainable = not fault
    model.compile(Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 15), d)


class Cut(keras.layers.Layer):
    """Lets no gradient through."""

    def call(self, x: Any) -> Any:
        return ops.stop_gradient(x)


@case(
    "keras/detached-body",
    "gradient.missing weights.frozen",
    "detached_graph",
    also="loss.plateau loss.no_learning",
)
def detached_body(watch: Any, fault: bool, seed: int) -> float:
    """stop_gradient between body and head."""
    d = sets.digits(seed)
    cut = [Cut()] if fault else []
    model = sequential(
        64, Dense(32, activation="relu"), Dense(8, activation="relu"), *cut, Dense(10, activation="softmax")
    )
    model.compile(Adam(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 15), d)


class DropoutInValidation(keras.Model):
    """A model whose evaluation forgets to switch dropout off."""

    def __init__(self, fault: bool) -> None:
        super().__init__()
        self.fault = fault
        self.net = keras.Sequential(
            [
                Dense(64, activation="relu"),
                keras.layers.Dropout(0.6),
                Dense(64, activation="relu"),
                keras.layers.Dropout(0.6),
                Dense(10, activation="softmax"),
            ]
        )

    def call(self, x: Any, training: bool = False) -> Any:
        return self.net(x, training=True if self.fault else training)


@case("keras/dropout-in-validation", "model.wrong_mode", "wrong_mode", also="metric.overfitting")
def dropout_in_validation(watch: Any, fault: bool, seed: int) -> float:
    """A layer is called with training=True always (transformers-33844)."""
    d = sets.digits(seed)
    model = DropoutInValidation(fault)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 12), d)


class NoTrainingMode(keras.Model):
    """A model that is always called as in evaluation."""

    def __init__(self, fault: bool) -> None:
        super().__init__()
        self.fault = fault
        layers: list[Any] = []
        for _ in range(8):
            layers += [Dense(48), keras.layers.BatchNormalization(momentum=0.9), keras.layers.ReLU()]
        self.net = keras.Sequential([*layers, Dense(10, activation="softmax")])

    def call(self, x: Any, training: bool = False) -> Any:
        return self.net(x, training=False if self.fault else training)


@case(
    "keras/trains-in-eval-mode",
    "model.wrong_mode",
    "wrong_mode",
    also="loss.no_learning loss.divergence loss.plateau loss.spike gradient.exploding gradient.vanishing"
    " metric.degenerate_predictions activation.dead data.scale loss.non_finite loss.oscillation",
)
def trains_in_eval_mode(watch: Any, fault: bool, seed: int) -> float:
    """training=False is passed on: batch norm never sees a batch, the raw pixels go right through."""
    d = sets.digits(seed, raw=True)
    model = NoTrainingMode(fault)
    model.compile(SGD(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 8), d)


@case(
    "keras/schedule-by-step",
    "loss.plateau update.too_small loss.no_learning",
    "learning_rate_too_low too_few_updates",
    onset=10,
)
def schedule_by_step(watch: Any, fault: bool, seed: int) -> float:
    """decay_steps=10 where ten epochs were meant."""
    d = sets.digits(seed)
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=2 if fault else 430, decay_rate=0.7)
    return accuracy(fit(classifier(64, 10, 64, optimizer=SGD(schedule)), d, watch, 12), d)


@case(
    "keras/adam-epsilon",
    "loss.no_learning update.too_small loss.plateau",
    "learning_rate_too_low",
)
def adam_epsilon(watch: Any, fault: bool, seed: int) -> float:
    """Adam with an epsilon of 1,000, which makes it SGD with a rate of a millionth (DeepCrime: optimizer)."""
    d = sets.digits(seed)
    model = classifier(64, 10, 64, optimizer=Adam(1e-3, epsilon=1e3 if fault else 1e-7))
    return accuracy(fit(model, d, watch, 12), d)


@case("keras/summed-loss", BLOWN, "learning_rate_too_high loss_function_mismatch", also=WAKE + " " + STUCK)
def summed_loss(watch: Any, fault: bool, seed: int) -> float:
    """reduction='sum' with a rate for the mean (TheDeepChecker)."""
    d = sets.sine(seed)
    d = d.with_(y=1.5 * d.x[:, 0] ** 2 - d.x[:, 0] + 1, yv=1.5 * d.xv[:, 0] ** 2 - d.xv[:, 0] + 1)
    loss = keras.losses.MeanSquaredError(reduction="sum" if fault else "sum_over_batch_size")
    return r2(fit(regressor(1, 64, 64, optimizer=SGD(0.02), loss=loss), d, watch, 20), d)
