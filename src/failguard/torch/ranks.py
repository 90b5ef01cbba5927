"""Several processes that train one model."""

from __future__ import annotations

import torch
from torch import distributed

__all__ = ["COMPARE_EVERY", "any_rank", "of_each_rank", "rank", "world_size"]

COMPARE_EVERY = 256  # steps between two comparisons of what ranks take for their own part of a step


def world_size() -> int:
    """Number of processes of the default group, 1 without one."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Of this process, from 0."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank. Every rank must call it at the same step."""
    total = torch.tensor(int(flag), device=device)
    distributed.all_reduce(total, op=distributed.ReduceOp.MAX)
    return bool(total.item())


def of_each_rank(value: float, device: torch.device) -> list[float]:
    """The value of each rank, by rank. Every rank must call it at the same step."""
    own = torch.tensor([value], dtype=torch.float32, device=device)
    found = [torch.empty_like(own) for _ in range(world_size())]
    distributed.all_gather(found, own)
    everyone: list[float] = torch.cat(found).tolist()  # one read for all ranks
    return everyone
