"""Units of activations, followed over some training batches in a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from failguard.core.internals import ActivationReading
from failguard.torch.arrivals import together
from failguard.torch.hooks import TracelessHook

__all__ = ["Window"]

WINDOW_BATCHES = 8
FLAT = {"sigmoid": 6.0, "tanh": 3.0}  # beyond, the slope is below 1 % of its maximum
PINNED_SHARE = 0.95  # of the samples, for a unit that counts as saturated
CHANNELS_SECOND = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.modules.batchnorm._NormBase, nn.GroupNorm)


class Window:
    """Follows the units of activations over some training batches, through hooks on the layers that feed them."""

    def __init__(self, layers: Iterable[tuple[str, nn.Module]], kinds: Mapping[str, str], step: int) -> None:
        """Args:
        layers: Qualified names and modules.
        kinds: What activates the output of which of them.
        step: Training batch.
        """
        self._step = step
        self._units: dict[str, _Units] = {}
        for name, module in layers:
            kind = kinds.get(name)
            if kind is not None:
                units = self._units[name] = _Units(kind, 1 if isinstance(module, CHANNELS_SECOND) else -1)
                units.handle = module.register_forward_hook(TracelessHook(units.see))

    @property
    def is_complete(self) -> bool:
        """Every layer was seen often enough."""
        return bool(self._units) and all(u.batches >= WINDOW_BATCHES for u in self._units.values())

    def counts(self) -> list[Tensor]:
        """How many units stand out, layer by layer."""
        return together([units.standing_out() for units in self._units.values()])

    def readings(self, counts: list[Tensor]) -> tuple[ActivationReading, ...]:
        """One for each layer.

        Args:
            counts: :meth:`counts`, on the host.
        """
        found = zip(self._units.items(), counts[0].tolist(), strict=True)
        return tuple(units.reading(name, int(count), self._step) for (name, units), count in found)

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

    def standing_out(self) -> Tensor:
        """How many units are dead or saturated. Tensor of shape ()."""
        if self._state is None:
            return torch.zeros(())
        return (self._state <= 0 if self._kind == "relu" else self._state >= PINNED_SHARE * self._samples).sum()

    def reading(self, name: str, standing_out: int, since_step: int) -> ActivationReading:
        """What was seen."""
        units = 0 if self._state is None else self._state.numel()
        dead, saturated = (standing_out, 0) if self._kind == "relu" else (0, standing_out)
        return ActivationReading(name, self._kind, units, dead, saturated, self.batches, self._samples, since_step)
