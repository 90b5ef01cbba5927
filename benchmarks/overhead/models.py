"""The models of the benchmark, the same ones in torch and in Keras, from a tiny MLP to 50 million parameters."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["MODELS", "Model", "keras_model", "torch_model"]

CLASSES = 10


@dataclass(frozen=True)
class Model:
    """One model and the shape of its input.

    Attributes:
        kind: ``"mlp"``, ``"cnn"`` or ``"transformer"``.
        width: Units of a hidden layer, channels, or the width of a token.
        layers: Hidden layers.
        batch: Samples in a batch.
        tokens: Length of a sequence, of a transformer only.
    """

    kind: str
    width: int
    layers: int
    batch: int
    tokens: int = 16

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one sample, channels last."""
        if self.kind == "mlp":
            return (64,)
        return (16, 16, 3) if self.kind == "cnn" else (self.tokens, self.width)


MODELS = {
    "mlp": Model("mlp", 128, 2, 32),
    "cnn": Model("cnn", 16, 2, 32),
    "transformer": Model("transformer", 256, 4, 8),
    "1m": Model("mlp", 690, 3, 32),
    "10m": Model("mlp", 2220, 3, 32),
    "50m": Model("mlp", 4980, 3, 32),
    "4-layers": Model("mlp", 64, 4, 32),
    "400-layers": Model("mlp", 64, 400, 32),
    "tiny": Model("mlp", 16, 2, 8),
}
"""Every model by name; the numbers count parameters or hidden layers."""


def torch_model(model: Model, seed: int = 0) -> tuple[Any, Callable[[int], tuple[Any, Any]]]:
    """A model in torch, and what makes a batch of inputs and classes."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    if model.kind == "mlp":
        widths = [64, *[model.width] * model.layers]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        net = nn.Sequential(*layers, nn.Linear(widths[-1], CLASSES))
    elif model.kind == "cnn":
        layers, channels = [], 3
        for i in range(model.layers):
            width = model.width << i
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))
    else:
        layer = nn.TransformerEncoderLayer(model.width, 4, 2 * model.width, batch_first=True)
        body = nn.TransformerEncoder(layer, model.layers, enable_nested_tensor=False)
        net = nn.Sequential(body, nn.Flatten(), nn.Linear(model.width * model.tokens, CLASSES))
    shape = (3, 16, 16) if model.kind == "cnn" else model.input_shape

    def batch(index: int) -> tuple[Any, Any]:
        of_batch = torch.Generator().manual_seed(index)
        return torch.randn(model.batch, *shape, generator=of_batch), torch.randint(
            0, CLASSES, (model.batch,), generator=of_batch
        )

    return net, batch


def keras_model(model: Model, **compile_keywords: Any) -> Any:
    """The same model in Keras, compiled."""
    import keras as k

    inputs = x = k.Input(model.input_shape)
    if model.kind == "mlp":
        for _ in range(model.layers):
            x = k.layers.Dense(model.width, activation="relu")(x)
    elif model.kind == "cnn":
        for i in range(model.layers):
            x = k.layers.Conv2D(model.width << i, 3, strides=2, padding="same")(x)
            x = k.layers.ReLU()(k.layers.BatchNormalization()(x))
        x = k.layers.GlobalAveragePooling2D()(x)
    else:
        for _ in range(model.layers):
            x = k.layers.LayerNormalization()(x + k.layers.MultiHeadAttention(4, model.width // 4)(x, x))
            inner = k.layers.Dense(2 * model.width, activation="relu")(x)
            x = k.layers.LayerNormalization()(x + k.layers.Dense(model.width)(inner))
        x = k.layers.Flatten()(x)
    net = k.Model(inputs, k.layers.Dense(CLASSES)(x))
    net.compile(k.optimizers.AdamW(1e-4), k.losses.SparseCategoricalCrossentropy(from_logits=True), **compile_keywords)
    return net
