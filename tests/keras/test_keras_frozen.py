"""Layers that are frozen although nothing has ever trained them."""

from __future__ import annotations

import numpy as np
import pytest

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.framework

from failguard.keras.frozen import untrained_frozen  # noqa: E402


def model(**options: object) -> object:
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((16,)),
        keras.layers.Dense(32, "relu", name="a", **options),
        keras.layers.Dense(8, "relu", name="b", **options),
        keras.layers.Dense(1, name="head"),
    ]
    return keras.Sequential(layers)


def freeze(net: object) -> object:
    for layer in net.layers[:-1]:
        layer.trainable = False
    return net


@pytest.mark.parametrize(
    "initializer", ["glorot_uniform", "he_normal", "lecun_uniform", keras.initializers.VarianceScaling(2, "fan_out")]
)
def test_as_an_initializer_left_them(initializer: object) -> None:
    net = model(kernel_initializer=initializer)
    assert untrained_frozen(net) == ()
    assert untrained_frozen(freeze(net)) == ("a", "b")


@pytest.mark.parametrize("has_bias", [True, False])
def test_a_body_that_was_trained(has_bias: bool) -> None:
    net = model(use_bias=has_bias)
    net.compile(keras.optimizers.SGD(1e-2), "mse")
    x = np.random.default_rng(0).normal(size=(256, 16))
    net.fit(x, x.sum(1), epochs=5, verbose=0)
    assert untrained_frozen(freeze(net)) == ()


def test_convolutions_and_models_within() -> None:
    keras.utils.set_random_seed(0)
    body = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(16, 3, name="conv")])
    net = keras.Sequential([keras.Input((8, 8, 3)), body, keras.layers.Flatten(), keras.layers.Dense(2)])
    body.trainable = False
    assert untrained_frozen(net) == ("conv",)


def test_what_cannot_be_told() -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.part = keras.layers.Dense(64)
            self.part.trainable = False

        def call(self, x: object) -> object:
            return self.part(x)

    own = Own()
    own(np.zeros((1, 16)))
    assert untrained_frozen(own) == ()
    assert untrained_frozen(freeze(model(kernel_initializer="orthogonal"))) == ()
    small = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    assert untrained_frozen(freeze(small)) == ()
