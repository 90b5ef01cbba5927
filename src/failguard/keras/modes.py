"""In which mode dropout and batch normalization are called, in training and in validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from failguard.core.facts import SetupFacts

__all__ = ["ModeWatch"]

DROPOUTS = (
    keras.layers.AlphaDropout,
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)
EPOCHS = 2


class ModeWatch:
    """Wrappers around layers that act differently in training, for the first two epochs of a fit.

    They see the plain argument ``training`` while a step is built, or at each call where nothing is compiled. Frozen
    layers are left alone: the body of a model that is fine-tuned is called in inference mode on purpose.
    """

    def __init__(self, model: Any, setup: SetupFacts, is_training: Callable[[], bool]) -> None:
        """Args:
        model: A compiled model.
        setup: Filled in.
        is_training: Whether the train function runs.
        """
        self._setup = setup
        self._is_training = is_training
        self._epochs = 0
        self._modes: dict[int, set[bool]] = {}  # of each layer, in training
        self._wrapped: list[tuple[Any, Any, Any]] = []
        self.is_validating = False
        for layer in model._flatten_layers(include_self=False, recursive=True):
            if layer.trainable and _has_modes(layer):
                self._wrap(layer)

    def end_epoch(self) -> None:
        """An epoch is over, its validation included."""
        self.is_validating = False
        if self._modes:
            self._setup.trains_in_eval_mode = all(modes == {False} for modes in self._modes.values())
            self._setup.mode_is_passed = True
        self._epochs += 1
        if self._epochs >= EPOCHS:
            self.close()

    def close(self) -> None:
        """Take the wrappers off. Further calls do nothing."""
        for layer, wrapper, before in self._wrapped:
            if layer.__dict__.get("call") is wrapper:
                if before is None:
                    del layer.__dict__["call"]
                else:
                    layer.__dict__["call"] = before
        self._wrapped.clear()

    def _wrap(self, layer: Any) -> None:
        original, before = layer.call, layer.__dict__.get("call")
        key = id(layer)

        def call(*args: Any, **kwargs: Any) -> Any:
            training = kwargs.get("training", args[1] if len(args) == 2 else None)
            if isinstance(training, bool):
                self._see(key, training)
            return original(*args, **kwargs)

        layer.__dict__["call"] = call
        self._wrapped.append((layer, call, before))

    def _see(self, key: int, training: bool) -> None:
        if self.is_validating:
            self._setup.evaluates_in_train_mode = self._setup.evaluates_in_train_mode or training
        elif self._is_training():
            self._modes.setdefault(key, set()).add(training)


def _has_modes(layer: Any) -> bool:
    if isinstance(layer, DROPOUTS):
        return bool(layer.rate)
    return isinstance(layer, keras.layers.BatchNormalization)
