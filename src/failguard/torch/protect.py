"""Leave a model as it was after running it once more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["random_state", "unchanged"]

MAX_ELEMENTS = 1 << 22  # larger tensors held as plain attributes are data, not state


def random_state(device: torch.device | None = None) -> tuple[Tensor, Tensor | None]:
    """State of torch's random streams: of the CPU, and of one CUDA device where given."""
    on_device = torch.cuda.get_rng_state(device) if device is not None and device.type == "cuda" else None
    return torch.default_generator.get_state(), on_device


@contextmanager
def unchanged(model: nn.Module, before: tuple[Tensor, Tensor | None] | None) -> Iterator[None]:
    """Run something on a model, then put back its buffers, attributes, modes and the random streams.

    Covered are buffers, and attributes of any module in it that are plain values, tensors, lists or dicts: counters,
    outputs collected in a list, the state of a metric. Parameters are not copied: run it without gradients.

    Args:
        model: The model.
        before: Random state to start from; ``None``: go on from the present one.
    """
    parameter = next(model.parameters(), None)
    device = parameter.device if parameter is not None else None
    now = random_state(device)
    kept = [(module, _Attributes(module)) for module in model.modules()]
    gradients = [(p, p.grad) for p in model.parameters()]
    try:
        if before is not None:
            _set_random_state(before, device)
        yield
    finally:
        for module, attributes in kept:
            attributes.put_back(module)
        for p, gradient in gradients:
            p.grad = gradient
        _set_random_state(now, device)


class _Attributes:
    """The attributes of one module, tensors and containers by value."""

    def __init__(self, module: nn.Module) -> None:
        values = module.__dict__.values()
        self._own = dict(module.__dict__)
        loose = [v for v in values if isinstance(v, Tensor) and v.numel() <= MAX_ELEMENTS]
        self._tensors = [(t, t.detach().clone()) for t in [*module._buffers.values(), *loose] if t is not None]
        self._lists = [(v, list(v)) for v in values if type(v) is list]
        self._dicts = [(v, dict(v)) for v in values if type(v) is dict]  # the registry of buffers among them

    @torch.no_grad()
    def put_back(self, module: nn.Module) -> None:
        for tensor, value in self._tensors:
            tensor.detach().copy_(value)
        for items, kept in self._lists:
            items[:] = kept
        for mapping, pairs in self._dicts:
            mapping.clear()
            mapping.update(pairs)
        for name in module.__dict__.keys() - self._own.keys():
            del module.__dict__[name]
        module.__dict__.update(self._own)


def _set_random_state(state: tuple[Tensor, Tensor | None], device: torch.device | None) -> None:
    torch.default_generator.set_state(state[0])
    if state[1] is not None and device is not None:
        torch.cuda.set_rng_state(state[1], device)
