"""Where the callbacks of a fit are found, and how their saving is timed."""

from __future__ import annotations

import pytest

keras = pytest.importorskip("keras")

from failguard.keras.checkpoints import callbacks_of_fit  # noqa: E402

pytestmark = pytest.mark.framework


class Asks(keras.callbacks.Callback):
    found = None

    def on_train_begin(self, logs=None):
        self.found = callbacks_of_fit()


def test_the_neighbours_of_a_callback_are_found():
    asks, other = Asks(), keras.callbacks.Callback()
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    keras.callbacks.CallbackList([other, asks], model=model).on_train_begin()
    assert asks.found[:2] == [other, asks]


def test_outside_of_a_fit_there_are_none():
    assert callbacks_of_fit() == []
