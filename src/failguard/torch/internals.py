"""Samples of what goes on inside a model: layers around one update, units of activations, predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from failguard.core.internals import ActivationReading, Internals, LayerReading, PredictionReading
from failguard.torch.hooks import TracelessHook

__all__ = ["InsideWatch", "layers_of"]

MOST_LAYERS = 200  # of a larger model an even sample is taken
MOST_ELEMENTS = 4096  # of a weight matrix, evenly strided
WINDOW_BATCHES = 8
MOST_WAIT = 64  # batches that an update is waited for
MOST_SAMPLES = 4096  # of predictions
FLAT = {"sigmoid": 6.0, "tanh": 3.0}  # beyond, the slope is below 1 % of its maximum
PINNED_SHARE = 0.95  # of the samples, for a unit that counts as saturated
CHANNELS_SECOND = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.modules.batchnorm._NormBase, nn.GroupNorm)


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


class InsideWatch:
    """Takes one sample at a time: gradients before an update, weights before and after it, predictions, activations.

    Attributes:
        is_open: A sample was begun and waits for its update.
        wants_prediction: The next loss is to be looked at, see :meth:`see_prediction`.
    """

    def __init__(self, model: nn.Module) -> None:
        """Args:
        model: The model, complete and on its device.
        """
        self._model = model
        self._layers = layers_of(model)
        self._before: list[list[Tensor]] = []
        self._reading: Internals | None = None
        self._stepped = False
        self._waited = 0
        self._handles: list[Any] = []
        self._window: _Window | None = None
        self._hooks_s = 0.0
        self._output_handle: Any = None
        self._output: Any = None
        self.activations: Mapping[str, str] = {}
        self.wants_prediction = False

    @property
    def is_open(self) -> bool:
        """A sample was begun."""
        return self._reading is not None

    @torch.no_grad()
    def begin(self, step: int, updates: int, optimizers: Sequence[Any], scale: float) -> None:
        """Gradients of an update are ready: look at them and at the weights.

        Args:
            step: Training batch.
            updates: Applied before.
            optimizers: Those of the update.
            scale: What the gradients are multiplied by.
        """
        layers = []
        self._before = []
        for layer in self._layers:
            found = [p.grad for p in layer.parameters if p.grad is not None]
            dense = [g.coalesce().values() if g.is_sparse else g for g in found]
            norm = math.hypot(*(float(torch.linalg.vector_norm(g)) for g in dense)) / scale if dense else None
            samples = [_sample(p) for p in layer.weights]
            self._before.append(samples)
            layers.append(
                LayerReading(
                    layer.name,
                    layer.kind,
                    sum(p.numel() for p in layer.parameters),
                    norm,
                    math.hypot(*(float(torch.linalg.vector_norm(s)) for s in samples)),
                    zero_gradient_units=_zero_units(layer),
                )
            )
        group = optimizers[0].param_groups[0] if optimizers and optimizers[0].param_groups else {}
        rate = group.get("lr")
        self._reading = Internals(
            step, updates, tuple(layers), learning_rate=float(rate) if isinstance(rate, int | float) else None
        )
        self._stepped = False
        self._waited = 0
        self._handles = [
            o.register_step_post_hook(self._on_step) for o in optimizers if hasattr(o, "register_step_post_hook")
        ]
        self.wants_prediction = True
        if self._window is None and self.activations:
            self._window = _Window(self._layers, self.activations, step)

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
        if self._reading is not None and prediction is not None and target is not None:
            self._reading = replace(self._reading, predictions=read_predictions(prediction, target, name))

    @torch.no_grad()
    def end(self) -> Internals | None:
        """Another batch begins: look at what the update changed; a batch later the sample is complete.

        Returns:
            The sample; ``None`` while its update is still to come, and for one batch after it.
        """
        reading = self._reading
        if reading is None:
            return None
        self._waited += 1
        if self._before:
            if self._handles and not self._stepped and self._waited < MOST_WAIT:
                return None
            self._reading = self._with_updates(reading)
            self._before = []
            return None
        activations: tuple[ActivationReading, ...] = ()
        if self._window is not None and self._window.is_complete:
            activations = self._window.readings()
            self._close_window()
        self._forget()
        return replace(reading, activations=activations)

    def _with_updates(self, reading: Internals) -> Internals:
        layers = list(reading.layers)
        if self._stepped:
            for i, (layer, before) in enumerate(zip(self._layers, self._before, strict=True)):
                change = [
                    float(torch.linalg.vector_norm(_sample(p) - b)) for p, b in zip(layer.weights, before, strict=True)
                ]
                layers[i] = replace(layers[i], update_norm=math.hypot(*change))
        return replace(reading, layers=tuple(layers))

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
        self._reading = None
        self._before = []

    def _on_step(self, *_: Any) -> None:
        self._stepped = True

    def _keep_output(self, module: nn.Module, args: Any, output: Any) -> None:
        if module.training and torch.is_grad_enabled():
            self._output = output.detach() if isinstance(output, Tensor) else None

    def _drop_output_handle(self) -> None:
        if self._output_handle is not None:
            self._output_handle.remove()
            self._output_handle = None


class _Window:
    """Follows the units of activations over some training batches, through hooks on the layers that feed them."""

    def __init__(self, layers: Sequence[_Layer], kinds: Mapping[str, str], step: int) -> None:
        self._step = step
        self._units: dict[str, _Units] = {}
        for layer in layers:
            kind = kinds.get(layer.name)
            if kind is not None:
                units = self._units[layer.name] = _Units(kind, 1 if isinstance(layer.module, CHANNELS_SECOND) else -1)
                units.handle = layer.module.register_forward_hook(TracelessHook(units.see))

    @property
    def is_complete(self) -> bool:
        """Every layer was seen often enough."""
        return bool(self._units) and all(u.batches >= WINDOW_BATCHES for u in self._units.values())

    def readings(self) -> tuple[ActivationReading, ...]:
        """One for each layer."""
        return tuple(units.reading(name, self._step) for name, units in self._units.items())

    @property
    def hooks_s(self) -> float:
        """Seconds in the hooks."""
        return sum(units.spent_s for units in self._units.values())

    def close(self) -> None:
        """Take the hooks off."""
        for units in self._units.values():
            units.handle.remove()


class _Units:
    def __init__(self, kind: str, channel: int) -> None:
        self._kind = kind
        self._channel = channel
        self._state: Tensor | None = None  # highest input, or how often at a flat end
        self._samples = 0
        self.batches = 0
        self.spent_s = 0.0
        self.handle: Any = None

    def see(self, module: nn.Module, args: Any, output: Any) -> None:
        """One forward pass of the layer."""
        if not (module.training and isinstance(output, Tensor) and output.dim() > 1) or self.batches >= WINDOW_BATCHES:
            return
        started = perf_counter()
        self._take_in(output)
        if self.batches >= WINDOW_BATCHES:  # a hook that does nothing costs every step its call
            self.handle.remove()
        self.spent_s += perf_counter() - started

    @torch.no_grad()
    def _take_in(self, output: Tensor) -> None:
        channel = self._channel % output.dim()
        others = [d for d in range(output.dim()) if d != channel]
        if self._kind == "relu":
            now = output.detach().amax(dim=others)
            merged = now if self._state is None else torch.maximum(self._state, now)
        else:
            now = (output.detach().abs() > FLAT[self._kind]).sum(dim=others)
            merged = now if self._state is None else self._state + now
        self._state = merged
        self._samples += output.numel() // output.shape[channel]
        self.batches += 1

    def reading(self, name: str, since_step: int) -> ActivationReading:
        """What was seen."""
        state = self._state
        units = 0 if state is None else state.numel()
        dead = saturated = 0
        if state is not None and self._kind == "relu":
            dead = int((state <= 0).sum())
        elif state is not None:
            saturated = int((state >= PINNED_SHARE * self._samples).sum())
        return ActivationReading(name, self._kind, units, dead, saturated, self.batches, self._samples, since_step)


@torch.no_grad()
def read_predictions(prediction: Tensor, target: Tensor, name: str | None) -> PredictionReading | None:
    """What a batch of predictions looks like beside its targets; ``None`` where the two cannot be compared."""
    prediction, target = prediction.detach(), target.detach()
    if prediction.dim() == 0 or prediction.is_complex() or prediction.numel() == 0:
        return None
    if name in ("cross_entropy", "nll_loss") and prediction.dim() >= 2 and not target.is_floating_point():
        classes, wanted = prediction[:MOST_SAMPLES].argmax(dim=1).flatten(), target[:MOST_SAMPLES].flatten()
        wanted = wanted[wanted >= 0]
    elif name is not None and name.startswith("binary"):
        threshold = 0.0 if name.endswith("logits") else 0.5
        if prediction.numel() != prediction.shape[0] or target.numel() != target.shape[0]:
            return None
        classes = (prediction[:MOST_SAMPLES].flatten() > threshold).long()
        wanted = (target[:MOST_SAMPLES].flatten() > 0.5).long()
    elif target.is_floating_point() and prediction.shape == target.shape:
        rows = prediction[:MOST_SAMPLES].flatten(1) if prediction.dim() > 1 else prediction[:MOST_SAMPLES, None]
        goals = target[:MOST_SAMPLES].flatten(1) if target.dim() > 1 else target[:MOST_SAMPLES, None]
        spread = float(rows.float().std(dim=0, correction=0).max())
        return PredictionReading(
            len(rows), spread=spread, target_spread=float(goals.float().std(dim=0, correction=0).max())
        )
    else:
        return None
    if not len(classes) or not len(wanted):
        return None
    predicted, targets = torch.bincount(classes), torch.bincount(wanted)
    return PredictionReading(
        len(classes),
        predicted_classes=int((predicted > 0).sum()),
        top_share=float(predicted.max()) / len(classes),
        target_classes=int((targets > 0).sum()),
        target_top_share=float(targets.max()) / len(wanted),
    )


def _sample(parameter: Tensor) -> Tensor:
    """A copy of at most 4,096 elements, evenly strided."""
    flat = parameter.detach().reshape(-1)
    return flat[:: 1 + flat.numel() // MOST_ELEMENTS].float().clone()


def _zero_units(layer: _Layer) -> float | None:
    """Share of output units whose weights got a gradient of exactly zero."""
    gradient = layer.weights[0].grad
    if gradient is None or gradient.is_sparse or gradient.dim() < 2 or isinstance(layer.module, nn.Embedding):
        return None
    return float((gradient.flatten(1).abs().amax(dim=1) == 0).float().mean())
