"""Tensors to numbers: the loss, the norm over all gradients, and one gradient near the input."""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from failguard.errors import InputError

__all__ = ["Sentinel", "global_norm", "gradients", "is_finite", "loss_value", "norm_on_device"]

# A larger parameter would make the look at one gradient a noticeable part of a small step.
SENTINEL_ELEMENTS = 16_384

HALF = (torch.float16, torch.bfloat16)  # a sum or a norm in these overflows or loses digits


def loss_value(loss: Any) -> float:
    """A loss as a number, without its graph.

    Args:
        loss: A number or a tensor with one element.

    Returns:
        The value; NaN and Inf included.

    Raises:
        InputError: It is neither; the message names what it is and the remedy.
    """
    try:
        if isinstance(loss, Tensor):
            return float(loss.item())  # raises for several elements, and for a complex one
        if not isinstance(loss, str):
            return float(loss)
    except (RuntimeError, TypeError, ValueError):
        pass
    if isinstance(loss, Tensor):
        given = f"a tensor of shape {tuple(loss.shape)} and type {str(loss.dtype).removeprefix('torch.')}"
    else:
        given = repr(loss) if isinstance(loss, str | None) else f"a {type(loss).__name__}"
    raise InputError(f"The loss is {given}, not one real number. Reduce it first, as with loss.mean().")


def gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The dense values of every gradient there is."""
    found = [p.grad for p in parameters if p.grad is not None]
    return [g.coalesce().values() if g.is_sparse else g for g in found]


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor Inf. Integers and booleans always do."""
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    tensor = tensor.detach()
    # A sum needs no memory, and is finite only if all elements are. It may overflow where they are.
    return (not tensor.is_sparse and cmath.isfinite(tensor.sum().item())) or bool(torch.isfinite(tensor).all())


def norm_on_device(tensors: list[Tensor]) -> Tensor:
    """The L2 norm over all tensors in one fused pass. 0-d tensor on the device of the first, shape ()."""
    groups: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    for t in tensors:
        groups.setdefault((t.device, t.dtype), []).append(t.detach())
    if len(groups) == 1:
        return torch.linalg.vector_norm(_norms(tensors))
    device = tensors[0].device
    parts = [_norms(group).to(device, torch.float32, non_blocking=True) for group in groups.values()]
    return torch.linalg.vector_norm(torch.cat(parts))


def _norms(tensors: list[Tensor]) -> Tensor:
    """The L2 norm of each tensor, shape (len(tensors),); all of one type on one device. Half types in float32."""
    if tensors[0].dtype not in HALF:
        return torch.stack(torch._foreach_norm(tensors))
    try:
        norms = torch._foreach_norm(tensors, 2, dtype=torch.float32)
    except TypeError:  # torch before 2.4
        norms = torch._foreach_norm([t.float() for t in tensors])
    return torch.stack(norms)


@torch.no_grad()
def global_norm(tensors: list[Tensor]) -> float:
    """The L2 norm over all elements of some tensors, such as the gradients of an update.

    The fused norm keeps the type of its tensors, so it overflows for large finite values (float16 at 6e4, float32 at
    1e30). Then it is taken again in float64.

    Args:
        tensors: Floating-point tensors of any shape, not sparse.

    Returns:
        The norm. NaN or Inf only where an element is; 0 without tensors.
    """
    if not tensors:
        return 0.0
    norm = float(norm_on_device(tensors))
    if math.isfinite(norm) or not all(is_finite(t) for t in tensors):
        return norm
    return math.hypot(*(float(torch.linalg.vector_norm(t, dtype=torch.float64)) for t in tensors))


class Sentinel:
    """One small gradient near the input, looked at before each update.

    A value that is not finite anywhere in the backward pass reaches the gradients of everything before it, so the
    first layer's tells of nearly all. The parameter is the smallest of the first layer with one of at most 16,384
    elements. It costs 2 to 10 microseconds on a CPU.
    """

    __slots__ = ("_modules", "parameter")

    def __init__(self, module: nn.Module, parameters: Iterable[Tensor]) -> None:
        """Args:
        module: The model.
        parameters: Those that the optimizer updates. Only ones that have a gradient now are taken.
        """
        self.parameter: Tensor | None = None
        ours = {id(p) for p in parameters}
        for layer in module.modules():
            found = [
                p
                for p in layer.parameters(recurse=False)
                if id(p) in ours and p.grad is not None and not p.grad.is_sparse and p.numel() <= SENTINEL_ELEMENTS
            ]
            if found:
                self.parameter = min(found, key=lambda p: p.numel())
                return

    def on_device(self) -> Tensor | None:
        """A number that is finite only if the gradient is. Tensor of shape (); ``None`` without a gradient."""
        gradient = None if self.parameter is None else self.parameter.grad
        if gradient is None:
            return None
        return gradient.sum(dtype=torch.float32) if gradient.dtype in HALF else gradient.sum()

    def value(self) -> float:
        """0 where the gradient is finite or absent, else NaN or Inf."""
        # On the hot path. A sum is the cheapest reduction when caches are cold, as they are within a step.
        gradient = None if self.parameter is None else self.parameter.grad
        if gradient is None:
            return 0.0
        value: float = gradient.sum().item()
        # The sum may overflow where the gradient does not.
        return 0.0 if value - value == 0.0 or is_finite(gradient) else value
