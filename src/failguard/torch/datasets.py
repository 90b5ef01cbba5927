"""What can be read of a loader's data before training without changing what training will see."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
)

__all__ = ["held_rows"]

MOST_COPIED_BYTES = 256 << 20  # a part of a dataset, or a type that NumPy does not know, is copied to be read
# Every row is drawn by these; others may leave rows out, as for the folds of a cross-validation.
COMPLETE = (SequentialSampler, RandomSampler, DistributedSampler)


def held_rows(loader: Any) -> tuple[Tensor, ...] | None:
    """All rows that a loader draws from, where they are plain tensors in memory: a ``TensorDataset`` or a part of one.

    Any other dataset is left alone. Asking it for samples runs the user's code, which may move a generator of its own,
    open a file that workers then share, or count: training would not be the same.

    Args:
        loader: Anything that a training takes batches from.

    Returns:
        The tensors, the rows first; ``None`` where they are not at hand, or too large a part to be copied.
    """
    if type(loader) is not DataLoader or type(loader.batch_sampler) is not BatchSampler:
        return None
    if type(loader.sampler) not in COMPLETE:
        return None
    dataset, parts = loader.dataset, []
    while type(dataset) is Subset:
        parts.append(dataset.indices)
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset or any(t.device.type != "cpu" for t in dataset.tensors):
        return None
    tensors = dataset.tensors
    row_bytes = sum(t[:1].numel() * t.element_size() for t in tensors)
    count = len(parts[0] if parts else tensors[0]) if tensors else 0
    copies = bool(parts) or any(t.dtype in (torch.bfloat16, torch.complex64, torch.complex128) for t in tensors)
    if copies and count * row_bytes > MOST_COPIED_BYTES:
        return None
    rows = None
    for indices in reversed(parts):
        chosen = torch.as_tensor(list(indices), dtype=torch.int64)
        rows = chosen if rows is None else rows[chosen]
    return tensors if rows is None else tuple(t[rows] for t in tensors)
