"""Keras programs that are healthy, most of them of a kind that detectors are known to alarm on."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from benchmarks.detection import data as sets
from benchmarks.detection.program import healthy
from benchmarks.detection.skill import r2_skill
from benchmarks.detection.zoo.keras_common import Dense, accuracy, classifier, entropy, fit, r2, regressor, sequential
from keras import ops

SGD = keras.optimizers.SGD
Adam = keras.optimizers.Adam
CROSS_ENTROPY = "sparse_categorical_crossentropy"


@healthy("keras/plain-classifier", awkward=False)
def plain_classifier(watch: Any, seed: int) -> float:
    """A classifier as in the first tutorial."""
    d = sets.digits(seed)
    return accuracy(fit(classifier(64, 10, 64), d, watch, 12), d)


@healthy("keras/plain-regression", awkward=False)
def plain_regression(watch: Any, seed: int) -> float:
    """A regression as in the first tutorial."""
    d = sets.regression(seed)
    return r2(fit(regressor(12, 32, optimizer=Adam(3e-3)), d, watch, 15), d)


@healthy("keras/relu-convolutions")
def relu_convolutions(watch: Any, seed: int) -> float:
    """A ReLU network on images with many zero pixels."""
    d = sets.digits(seed, images=True)
    d = d.with_(x=d.x[..., None], xv=d.xv[..., None])
    model = sequential(
        (8, 8, 1),
        keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
        keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        Dense(64, activation="relu"),
        Dense(10, activation="softmax"),
    )
    model.compile("adam", CROSS_ENTROPY, metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 8), d)


@healthy("keras/warm-up-cosine")
def warm_up_cosine(watch: Any, seed: int) -> float:
    """Warm-up for 100 steps, then a cosine to zero."""
    d = sets.digits(seed)
    rate = keras.optimizers.schedules.CosineDecay(0.0, 416, warmup_target=3e-3, warmup_steps=100)
    return accuracy(fit(classifier(64, 10, 64, optimizer=Adam(rate)), d, watch, 12), d)


@healthy("keras/warm-restarts")
def warm_restarts(watch: Any, seed: int) -> float:
    """CosineDecayRestarts: at each restart the loss jumps and comes back."""
    d = sets.digits(seed)
    rate = keras.optimizers.schedules.CosineDecayRestarts(0.3, 120, t_mul=1.0)
    return accuracy(fit(classifier(64, 10, 64, optimizer=SGD(rate, momentum=0.9)), d, watch, 14), d)


@healthy("keras/fine-tuning-frozen-body")
def fine_tuning(watch: Any, seed: int) -> float:
    """A body that was trained before is frozen, a new head learns."""
    d = sets.digits(seed)
    body = keras.Sequential([keras.Input((64,)), Dense(64, activation="relu"), Dense(32, activation="relu")])
    first = keras.Sequential([body, Dense(10, activation="softmax")])
    first.compile("adam", CROSS_ENTROPY)
    first.fit(d.x, d.y, epochs=10, verbose=0)
    body.trainable = False
    model = keras.Sequential([body, Dense(10, activation="softmax")])
    model.compile(Adam(3e-3), CROSS_ENTROPY, metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 10), d)


@healthy("keras/converged-warm-start")
def converged_warm_start(watch: Any, seed: int) -> float:
    """Fit is called again on a model that has converged."""
    d = sets.blobs(seed, 1600, spread=2.0)
    model = classifier(20, 4, 32, optimizer=Adam(2e-3))
    model.fit(d.x, d.y, epochs=20, verbose=0)
    model.compile(SGD(0.005), CROSS_ENTROPY, metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 10), d)


@healthy("keras/heavy-dropout")
def heavy_dropout(watch: Any, seed: int) -> float:
    """Dropout of 0.6 three times."""
    d = sets.digits(seed)
    hidden = [layer for _ in range(3) for layer in (Dense(128, activation="relu"), keras.layers.Dropout(0.6))]
    model = sequential(64, *hidden, Dense(10, activation="softmax"))
    model.compile("adam", CROSS_ENTROPY, metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 15), d)


@healthy("keras/embedding")
def embedding(watch: Any, seed: int) -> float:
    """A large embedding of which a step touches a few rows."""
    d = sets.tokens(seed, vocabulary=3000)
    model = sequential(
        (12,), keras.layers.Embedding(3000, 16), keras.layers.GlobalAveragePooling1D(), Dense(3, activation="softmax")
    )
    model.compile(Adam(1e-2), CROSS_ENTROPY, metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 10), d)


@healthy("keras/tiny-batches")
def tiny_batches(watch: Any, seed: int) -> float:
    """Batches of two."""
    d = sets.breast_cancer(seed)
    model = sequential(30, Dense(16, activation="relu"), Dense(1, activation="sigmoid"))
    model.compile(SGD(0.01), "binary_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 4, batch=2), d)


@healthy("keras/negative-loss")
def negative_loss(watch: Any, seed: int) -> float:
    """A Gaussian likelihood whose loss ends negative."""
    d = sets.regression(seed, noise=0.02)

    def loss(y: Any, p: Any) -> Any:
        variance = ops.softplus(p[:, 1]) + 1e-4
        return ops.mean(0.5 * ops.log(variance) + (p[:, 0] - ops.reshape(y, (-1,))) ** 2 / (2 * variance))

    model = sequential(12, Dense(48, activation="relu"), Dense(2))
    model.compile(Adam(3e-3), loss)
    fit(model, d, watch, 25)
    return r2_skill(model.predict(d.xv, verbose=0)[:, 0], d.yv)


@healthy("keras/large-targets-handled")
def large_targets(watch: Any, seed: int) -> float:
    """Targets about a million; a Rescaling layer at the end brings the output there."""
    d = sets.regression(seed)
    d = d.with_(y=2e6 + 5e5 * d.y, yv=2e6 + 5e5 * d.yv)
    scale = keras.layers.Rescaling(float(d.y.std()), offset=float(d.y.mean()))
    model = sequential(12, Dense(32, activation="relu"), Dense(1), scale)
    model.compile(Adam(3e-3), "mse")
    return r2(fit(model, d, watch, 15), d)


@healthy("keras/normalised-inside")
def normalised_inside(watch: Any, seed: int) -> float:
    """Raw features, but the model begins with a Normalization layer."""
    d = sets.breast_cancer(seed, raw=True)
    norm = keras.layers.Normalization()
    norm.adapt(d.x)
    model = sequential(30, norm, Dense(16, activation="relu"), Dense(1, activation="sigmoid"))
    model.compile(Adam(3e-3), "binary_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 20), d)


@healthy("keras/label-smoothing")
def label_smoothing(watch: Any, seed: int) -> float:
    """The loss cannot fall below the entropy of the smoothed labels."""
    d = sets.digits(seed)
    eye = np.eye(10, dtype="float32")
    d = d.with_(y=eye[d.y], yv=eye[d.yv])
    model = sequential(64, Dense(64, activation="relu"), Dense(10, activation="softmax"))
    model.compile("adam", keras.losses.CategoricalCrossentropy(label_smoothing=0.3), metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 15), d)


@healthy("keras/heavy-tailed-noise")
def heavy_tailed_noise(watch: Any, seed: int) -> float:
    """Targets with Student noise of 1.5 degrees of freedom, Huber loss."""
    rng = np.random.default_rng(seed)
    d = sets.regression(seed, 1600)
    y = (d.y + 0.3 * rng.standard_t(1.5, len(d.y))).astype("float32")
    model = regressor(12, 32, optimizer=Adam(3e-3), loss="huber")
    return r2(fit(model, d.with_(y=y), watch, 12), d)


@healthy("keras/log-normal-target")
def log_normal_target(watch: Any, seed: int) -> float:
    """A skewed target: batch losses vary a hundredfold."""
    d = sets.regression(seed, 1600)
    d = d.with_(y=np.exp(1.2 * d.y), yv=np.exp(1.2 * d.yv))
    return r2(fit(regressor(12, 48, optimizer=Adam(3e-3)), d, watch, 20), d)


@healthy("keras/autoencoder", awkward=False)
def autoencoder(watch: Any, seed: int) -> float:
    """Digits through a bottleneck, pixels as probabilities."""
    d = sets.digits(seed)
    d = d.with_(y=d.x, yv=d.xv)
    model = sequential(
        64, Dense(48, activation="relu"), Dense(12), Dense(48, activation="relu"), Dense(64, activation="sigmoid")
    )
    model.compile(Adam(3e-3), "binary_crossentropy")
    return r2(fit(model, d, watch, 20), d)


@healthy("keras/recurrent")
def recurrent(watch: Any, seed: int) -> float:
    """An LSTM: little happens in the first epochs."""
    d = sets.sequences(seed)
    model = sequential((20, 4), keras.layers.LSTM(24), Dense(1, activation="sigmoid"))
    model.compile(Adam(5e-3, clipnorm=1.0), "binary_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 15), d)


@healthy("keras/imbalanced-but-learned")
def imbalanced(watch: Any, seed: int) -> float:
    """Five in a hundred are positive, with class weights; the model finds them."""
    d = sets.blobs(seed, 4000, classes=2, spread=1.6)
    keep, keep_v = ((y == 0) | (np.arange(len(y)) % 20 == 0) for y in (d.y, d.yv))
    d = sets.Split(d.x[keep], d.y[keep], d.xv[keep_v], d.yv[keep_v])
    model = sequential(20, Dense(32, activation="relu"), Dense(1, activation="sigmoid"))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return entropy(fit(model, d, watch, 12, class_weight={0: 1.0, 1: 5.0}), d)


@healthy("keras/noisy-labels")
def noisy_labels(watch: Any, seed: int) -> float:
    """A fifth of the labels are wrong; the model learns the rest."""
    d = sets.digits(seed)
    rng = np.random.default_rng(seed)
    wrong = rng.random(len(d.y)) < 0.2
    d = d.with_(y=np.where(wrong, rng.integers(0, 10, len(d.y)), d.y))
    return accuracy(fit(classifier(64, 10, 24), d, watch, 8), d)


@healthy("keras/late-start")
def late_start(watch: Any, seed: int) -> float:
    """Two spirals: the loss stays near the guess for long before it falls."""
    d = sets.spirals(seed, 1600)
    model = sequential(2, Dense(64, activation="relu"), Dense(64, activation="relu"), Dense(1, activation="sigmoid"))
    model.compile(Adam(2e-3), "binary_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 40), d)


@healthy("keras/batch-norm", awkward=False)
def batch_norm(watch: Any, seed: int) -> float:
    """Batch norm after every layer, AdamW."""
    d = sets.digits(seed)
    hidden = [
        layer
        for _ in range(2)
        for layer in (Dense(64), keras.layers.BatchNormalization(), keras.layers.Activation("relu"))
    ]
    model = sequential(64, *hidden, Dense(10, activation="softmax"))
    model.compile(keras.optimizers.AdamW(3e-3, weight_decay=0.05), CROSS_ENTROPY, metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 10), d)


@healthy("keras/reduce-on-plateau")
def reduce_on_plateau(watch: Any, seed: int) -> float:
    """The rate is cut whenever validation stalls, until it is tiny."""
    d = sets.breast_cancer(seed)
    model = sequential(30, Dense(16, activation="relu"), Dense(1, activation="sigmoid"))
    model.compile(SGD(0.1), "binary_crossentropy", metrics=["accuracy"])
    reduce = keras.callbacks.ReduceLROnPlateau(patience=2, factor=0.3)
    return accuracy(fit(model, d, watch, 30, callbacks=[reduce]), d)


@healthy("keras/gradient-accumulation")
def gradient_accumulation(watch: Any, seed: int) -> float:
    """Four batches of eight make an update."""
    d = sets.digits(seed)
    model = classifier(64, 10, 64, optimizer=Adam(3e-3, gradient_accumulation_steps=4))
    return accuracy(fit(model, d, watch, 8, batch=8), d)


@healthy("keras/long-flat-validation")
def long_flat_validation(watch: Any, seed: int) -> float:
    """Validation stops improving early and stays there; no harm is done."""
    d = sets.breast_cancer(seed)
    l2 = keras.regularizers.l2(1e-3)
    model = sequential(
        30, Dense(16, activation="relu", kernel_regularizer=l2), Dense(1, activation="sigmoid", kernel_regularizer=l2)
    )
    model.compile(SGD(0.02), "binary_crossentropy", metrics=["accuracy"])
    return accuracy(fit(model, d, watch, 40), d)
