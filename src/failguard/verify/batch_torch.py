"""Recorded batches of any structure, changed: scaled, or without some rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from failguard.torch.batches import TARGET_KEYS, batch_size, mapped, rebuilt, split, tensors

__all__ = ["Scale", "scale_of", "scaled", "to_device", "without_bad_rows"]

ABSURD = 1e3  # times the median of the largest magnitudes of all recorded rows

Scale = tuple[Tensor, Tensor]


def to_device(batch: Any, device: str) -> Any:
    """The batch on a device. An object that moves itself, as Lightning's and PyG's batches do, is asked to."""
    if not isinstance(batch, Tensor | Mapping | list | tuple) and callable(getattr(batch, "to", None)):
        return batch.to(device)
    return mapped(batch, lambda t: t.to(device))


def with_inputs(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The batch with its floating-point inputs changed."""

    def of_inputs(tensor: Tensor) -> Tensor:
        return change(tensor) if tensor.is_floating_point() else tensor

    if isinstance(batch, Mapping):
        return rebuilt(batch, {k: v if k in TARGET_KEYS else mapped(v, of_inputs) for k, v in batch.items()})
    if isinstance(batch, list | tuple) and len(batch) >= 2:
        return rebuilt(batch, [*(mapped(v, of_inputs) for v in batch[:-1]), batch[-1]])
    return mapped(batch, of_inputs)


def with_targets(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The batch with its floating-point targets changed."""

    def of_targets(tensor: Tensor) -> Tensor:
        return change(tensor) if tensor.is_floating_point() else tensor

    if isinstance(batch, Mapping):
        key = next((k for k in TARGET_KEYS if k in batch), None)
        return rebuilt(batch, {k: mapped(v, of_targets) if k == key else v for k, v in batch.items()})
    if isinstance(batch, list | tuple) and len(batch) >= 2:
        return rebuilt(batch, [*batch[:-1], mapped(batch[-1], of_targets)])
    return batch


def scale_of(batches: Sequence[Any], *, targets: bool) -> Scale | None:
    """Mean and standard deviation over the recorded batches, for each feature of tabular data, else over all.

    Returns:
        ``None`` where there are no floating-point values of one kind, or they do not vary.
    """
    found = [next((t for t in tensors(split(b)[1 if targets else 0]) if t.is_floating_point()), None) for b in batches]
    values = [t.detach().double() for t in found if t is not None]
    if not values or len({(t.dim(), t.shape[-1] if t.dim() == 2 else 0) for t in values}) > 1:
        return None
    if values[0].dim() == 2:
        table = torch.cat(values)
        mean, deviation = table.mean(dim=0), table.std(dim=0)
    else:
        flat = torch.cat([t.flatten() for t in values])
        mean, deviation = flat.mean(), flat.std()
    deviation = torch.where(deviation > 0, deviation, torch.ones_like(deviation))
    return (mean, deviation) if bool(torch.isfinite(mean).all() and torch.isfinite(deviation).all()) else None


def without_bad_rows(batches: Sequence[Any]) -> list[Any]:
    """The batches without samples that hold values which are not finite or absurd; ``None`` for one of nothing else."""
    typical = [_magnitudes(b) for b in batches]
    known = torch.cat([m[torch.isfinite(m)] for m in typical if m is not None] or [torch.zeros(0)])
    limit = ABSURD * float(known.median()) if known.numel() and float(known.median()) > 0 else float("inf")
    kept = []
    for batch, magnitudes in zip(batches, typical, strict=True):
        rows = None if magnitudes is None else torch.isfinite(magnitudes) & (magnitudes <= limit)
        if rows is None or bool(rows.all()):
            kept.append(batch)
        else:
            kept.append(_rows_of(batch, rows) if bool(rows.any()) else None)
    return kept


def _rows_of(batch: Any, rows: Tensor) -> Any:
    return mapped(batch, lambda t: t[rows] if t.dim() and len(t) == len(rows) else t)


def scaled(batches: Sequence[Any], scale: Scale, *, targets: bool) -> list[Any]:
    """The batches with inputs, or targets, of mean 0 and standard deviation 1."""
    mean, deviation = scale

    def change(tensor: Tensor) -> Tensor:
        return ((tensor - mean) / deviation).to(tensor.dtype)

    return [(with_targets if targets else with_inputs)(batch, change) for batch in batches]


def _magnitudes(batch: Any) -> Tensor | None:
    """The largest magnitude in each sample, NaN where one is not finite. Shape (samples,)."""
    n = batch_size(batch)
    parts = [t.detach().float() for t in tensors(batch) if t.is_floating_point() and t.dim() and len(t) == n]
    if n is None or not parts:
        return None
    largest = torch.stack([t.reshape(n, -1).abs().amax(dim=1) for t in parts if t.numel()])
    return torch.where(torch.isfinite(largest).all(dim=0), largest.amax(dim=0), torch.full((n,), float("nan")))
