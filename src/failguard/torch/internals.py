"""Samples of what goes on inside a model: layers around one update, units of activations, predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from failguard.core.internals import Internals, LayerReading
from failguard.torch.activations import Window
from failguard.torch.arrivals import Arrivals, together
from failguard.torch.hooks import TracelessHook
from failguard.torch.predictions import reduce_predictions

__all__ = ["InsideWatch", "layers_of"]

MOST_LAYERS = 200  # of a larger model an even sample is taken
MOST_ELEMENTS = 4096  # of a weight matrix, evenly strided
MOST_WAIT = 64  # batches that an update is waited for


@dataclass(slots=True)
class _Layer:
    name: str
    kind: str
    module: nn.Module
    parameters: list[Tensor]  # trainable
    weights: list[Tensor]  # those whose updates are looked at


def layers_of(model: nn.Module) -> list[_Layer]:
    """Modules that hold trainable parameters of their own, in order of registration; at most 200, evenly chosen."""
    layers = []
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if p.requires_grad]
        if own:
            matrices = [p for p in own if p.dim() > 1] or own
            layers.append(_Layer(name or type(module).__name__, type(module).__name__, module, own, matrices))
    if len(layers) <= MOST_LAYERS:
        return layers
    return [layers[i * (len(layers) - 1) // (MOST_LAYERS - 1)] for i in range(MOST_LAYERS)]


@dataclass(slots=True)
class _Sample:
    """A sample that is being taken."""

    reading: Internals
    before: list[list[Tensor]]  # weights, as long as the update is to come
    waited: int = 0
    is_closed: bool = False  # nothing more is asked for; the last of it is on its way
    has_arrived: bool = False


class InsideWatch:
    """Takes one sample at a time: gradients before an update, weights before and after it, predictions, activations.

    Attributes:
        wants_prediction: The next loss is to be looked at, see :meth:`see_prediction`.
    """

    def __init__(self, model: nn.Module, arrivals: Arrivals | None = None) -> None:
        """Args:
        model: The model, complete and on its device.
        arrivals: How tensors are read; default at once.
        """
        self._model = model
        self._arrivals = arrivals or Arrivals()
        self._layers = layers_of(model)
        self._sample: _Sample | None = None
        self._stepped = False
        self._handles: list[Any] = []
        self._window: Window | None = None
        self._hooks_s = 0.0
        self._output_handle: Any = None
        self._output: Any = None
        self.activations: Mapping[str, str] = {}
        self.wants_prediction = False

    @property
    def is_open(self) -> bool:
        """A sample was begun and is not complete yet."""
        return self._sample is not None

    @torch.no_grad()
    def begin(self, step: int, updates: int, optimizers: Sequence[Any], scale: float | Tensor) -> None:
        """Gradients of an update are ready: look at them and at the weights.

        Args:
            step: Training batch.
            updates: Applied before.
            optimizers: Those of the update.
            scale: What the gradients are multiplied by.
        """
        layers, before, counts = [], [], []
        numbers: list[Tensor] = []
        for layer in self._layers:
            first = len(numbers)
            size = 0
            for p in layer.parameters:
                size += p.numel()
                gradient = None if p.grad is None else self._dense(p.grad)
                if gradient is not None:
                    numbers.append(torch.linalg.vector_norm(gradient) / scale)
            between = len(numbers)
            samples = [_sample(p) for p in layer.weights]
            numbers += [torch.linalg.vector_norm(s) for s in samples]
            zeros = _zero_units(layer)
            counts.append((between - first, len(samples), zeros is not None))
            if zeros is not None:
                numbers.append(zeros)
            before.append(samples)
            layers.append(LayerReading(layer.name, layer.kind, size))
        group = optimizers[0].param_groups[0] if optimizers and optimizers[0].param_groups else {}
        rate = group.get("lr")
        sample = self._sample = _Sample(
            Internals(
                step, updates, tuple(layers), learning_rate=float(rate) if isinstance(rate, int | float) else None
            ),
            before,
        )

        def take_in(copies: list[Tensor]) -> None:
            values, read, at = _values(copies), [], 0
            for layer, (gradients, weights, has_zeros) in zip(sample.reading.layers, counts, strict=True):
                between, end = at + gradients, at + gradients + weights
                read.append(
                    replace(
                        layer,
                        gradient_norm=math.hypot(*values[at:between]) if gradients else None,
                        weight_norm=math.hypot(*values[between:end]),
                        zero_gradient_units=values[end] if has_zeros else None,
                    )
                )
                at = end + has_zeros
            sample.reading = replace(sample.reading, layers=tuple(read))

        self._arrivals.read(together(numbers), take_in)
        self._stepped = False
        self._handles = [
            o.register_step_post_hook(self._on_step) for o in optimizers if hasattr(o, "register_step_post_hook")
        ]
        self.wants_prediction = True
        if self._window is None and self.activations:
            self._window = Window(((y.name, y.module) for y in self._layers), self.activations, step)

    def watch_output(self) -> None:
        """Keep what the model's next forward pass in training returns, for loops whose loss shows no predictions."""
        if self._output_handle is None:
            self._output_handle = self._model.register_forward_hook(TracelessHook(self._keep_output))

    def take_output(self) -> Tensor | None:
        """The output that was kept, if it is one tensor."""
        output, self._output = self._output, None
        self._drop_output_handle()
        return output if isinstance(output, Tensor) else None

    def see_prediction(self, prediction: Tensor | None, target: Tensor | None, name: str | None) -> None:
        """What the loss compared.

        Args:
            prediction, target: Tensors of the loss.
            name: Name of the loss, as in ``torch.nn.functional``.
        """
        self.wants_prediction = False
        sample = self._sample
        if sample is None or prediction is None or target is None:
            return
        reduced = reduce_predictions(prediction, target, name)
        if reduced is not None:
            tensors, finish = reduced

            def take_in(copies: list[Tensor]) -> None:
                sample.reading = replace(sample.reading, predictions=finish(copies))

            self._arrivals.read(tensors, take_in)

    @torch.no_grad()
    def end(self) -> Internals | None:
        """Another batch begins: look at what the update changed; a batch later the sample is complete.

        Returns:
            The sample; ``None`` while its update is still to come, for one batch after it, and while numbers are on
            their way from a device.
        """
        sample = self._sample
        if sample is None:
            return None
        sample.waited += 1
        if sample.before:
            if self._handles and not self._stepped and sample.waited < MOST_WAIT:
                return None
            self._look_at_updates(sample)
            sample.before = []
            return None
        if not sample.is_closed:
            self._close(sample)
        if not sample.has_arrived:
            return None
        self._forget()
        return sample.reading

    def _look_at_updates(self, sample: _Sample) -> None:
        if not self._stepped:
            return
        numbers = []
        for layer, before in zip(self._layers, sample.before, strict=True):
            for p, old in zip(layer.weights, before, strict=True):
                numbers.append(torch.linalg.vector_norm(_sample(p) - old))
        counts = [len(before) for before in sample.before]

        def take_in(copies: list[Tensor]) -> None:
            values, read, at = _values(copies), [], 0
            for layer, count in zip(sample.reading.layers, counts, strict=True):
                read.append(replace(layer, update_norm=math.hypot(*values[at : at + count])))
                at += count
            sample.reading = replace(sample.reading, layers=tuple(read))

        self._arrivals.read(together(numbers), take_in)

    def _close(self, sample: _Sample) -> None:
        """Ask for the last of a sample."""
        sample.is_closed = True
        window = self._window if self._window is not None and self._window.is_complete else None
        if window is not None:
            self._close_window()

        def take_in(copies: list[Tensor]) -> None:
            if window is not None:
                sample.reading = replace(sample.reading, activations=window.readings(copies))
            sample.has_arrived = True

        self._arrivals.read([] if window is None else window.counts(), take_in)

    def _dense(self, gradient: Tensor) -> Tensor | None:
        """Its values; ``None`` where they could not be told without waiting for a device."""
        if not gradient.is_sparse:
            return gradient
        return None if self._arrivals.is_late else gradient.coalesce().values()

    def close(self) -> None:
        """Take every hook off."""
        self._forget()
        self._drop_output_handle()
        self._close_window()

    def take_hooks_s(self) -> float:
        """Seconds that hooks on layers took since the last time, in windows that are over."""
        spent_s, self._hooks_s = self._hooks_s, 0.0
        return spent_s

    def _close_window(self) -> None:
        window, self._window = self._window, None
        if window is not None:
            window.close()
            self._hooks_s += window.hooks_s

    def _forget(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._sample = None

    def _on_step(self, *_: Any) -> None:
        self._stepped = True

    def _keep_output(self, module: nn.Module, args: Any, output: Any) -> None:
        if module.training and torch.is_grad_enabled():
            self._output = output.detach() if isinstance(output, Tensor) else None

    def _drop_output_handle(self) -> None:
        if self._output_handle is not None:
            self._output_handle.remove()
            self._output_handle = None


def _values(copies: list[Tensor]) -> list[float]:
    return copies[0].tolist() if copies else []


def _sample(parameter: Tensor) -> Tensor:
    """A copy of at most 4,096 elements, evenly strided."""
    flat = parameter.detach().reshape(-1)
    return flat[:: 1 + flat.numel() // MOST_ELEMENTS].float().clone()


def _zero_units(layer: _Layer) -> Tensor | None:
    """Share of output units whose weights got a gradient of exactly zero. Tensor of shape ()."""
    gradient = layer.weights[0].grad
    if gradient is None or gradient.is_sparse or gradient.dim() < 2 or isinstance(layer.module, nn.Embedding):
        return None
    return (gradient.flatten(1).abs().amax(dim=1) == 0).float().mean()
