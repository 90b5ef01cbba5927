"""Weights of a model in and out, and whether they are finite."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from failguard.torch.measure import is_finite

__all__ = ["RunningStatistics", "Snapshot", "clean_name", "named_tensors", "non_finite_parameters"]


def clean_name(name: str) -> str:
    """A qualified name without what torch.compile puts into it."""
    return name.replace("_orig_mod.", "").removesuffix("_orig_mod")


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by qualified name, shared ones once."""
    named: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if id(tensor) in seen or is_lazy(tensor):
            continue
        seen.add(id(tensor))
        named[clean_name(name)] = tensor.detach()
    return named


def non_finite_parameters(module: nn.Module) -> list[str]:
    """Qualified names of trainable parameters with a value that is not finite, in order of registration.

    Frozen ones are left out: training cannot change them, and some hold Inf on purpose, as masks do.
    """
    named = {
        clean_name(name): p.detach()
        for name, p in module.named_parameters()
        if p.requires_grad and p.is_floating_point() and not is_lazy(p)
    }
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for tensor in named.values():
        groups.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    # One fused pass says that all is well; only if not is each tensor looked at, as a norm may also overflow.
    if all(is_finite(torch.stack(torch._foreach_norm(group))) for group in groups.values()):
        return []
    return [name for name, tensor in named.items() if not is_finite(tensor)]


class Snapshot:
    """A copy of parameters and buffers in host memory, made once and overwritten in place."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._saved: dict[str, Tensor] = {}

    @property
    def size_bytes(self) -> int:
        """What a copy takes."""
        return sum(t.numel() * t.element_size() for t in named_tensors(self._module).values())

    @torch.no_grad()
    def save(self) -> None:
        """Copy the weights, in place of an earlier copy."""
        live = named_tensors(self._module)
        if live.keys() != self._saved.keys():
            self._saved = {name: torch.empty_like(t, device="cpu") for name, t in live.items()}
        _copy(list(self._saved.values()), list(live.values()))

    @torch.no_grad()
    def restore(self) -> None:
        """Put the copy back into the live model."""
        live = named_tensors(self._module)
        names = [name for name in self._saved if name in live]
        _copy([live[name] for name in names], [self._saved[name] for name in names])


class RunningStatistics:
    """An earlier copy of floating-point buffers, such as batch normalization's running mean.

    A bad forward pass reaches them although its update is dropped. They move slowly, so values of a few dozen steps
    ago are as good. Buffers that are not finite at the start, such as an attention mask's, are left alone.
    """

    def __init__(self, module: nn.Module) -> None:
        self._places: list[tuple[str, nn.Module, str]] = []
        for path, owner in module.named_modules():
            for name, buffer in owner.named_buffers(recurse=False):
                if buffer.is_floating_point() and buffer.numel() and is_finite(buffer):
                    self._places.append((clean_name(f"{path}.{name}".lstrip(".")), owner, name))
        self._saved: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._places)

    def _live(self) -> list[Tensor]:
        return [getattr(owner, name).detach() for _, owner, name in self._places]

    @torch.no_grad()
    def keep(self) -> None:
        """Copy them, on their own device."""
        live = self._live()
        if not self._saved:
            self._saved = [torch.empty_like(b) for b in live]
        _copy(self._saved, live)

    def non_finite(self) -> list[str]:
        """Qualified names of those that are no longer finite."""
        return [place[0] for place, buffer in zip(self._places, self._live(), strict=True) if not is_finite(buffer)]

    @torch.no_grad()
    def mend(self) -> list[str]:
        """Put the copy back where a buffer is not finite and the copy is.

        Returns:
            Qualified names of the buffers that were put back.
        """
        mended = []
        for place, buffer, saved in zip(self._places, self._live(), self._saved, strict=False):
            if not is_finite(buffer) and is_finite(saved):
                buffer.copy_(saved)
                mended.append(place[0])
        return mended


def _copy(to: list[Tensor], source: list[Tensor]) -> None:
    if to:
        torch._foreach_copy_(to, source)
