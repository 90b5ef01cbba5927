"""The factor of a mixed-precision loss scaler."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["loss_scale"]


def loss_scale(scaler: Any) -> float | Tensor | None:
    """What a scaler multiplies losses by at the moment.

    Args:
        scaler: A ``GradScaler`` or the like; ``None`` without one.

    Returns:
        A number; a tensor with one element where it is on an accelerator, as reading it would wait; ``None`` where no
        loss is scaled.
    """
    if scaler is None or not scaler.is_enabled():
        return None
    scale = getattr(scaler, "_scale", None)  # there is no public way that does not wait
    if isinstance(scale, Tensor) and scale.device.type != "cpu":
        return scale
    return float(scaler.get_scale())
