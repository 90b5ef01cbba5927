"""Several processes that train one model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import monotonic, sleep

import torch
from torch import distributed

__all__ = ["COMPARE_EVERY", "any_rank", "of_each_rank", "rank", "world_size"]

COMPARE_EVERY = 256  # steps between two comparisons of what ranks take for their own part of a step
LET_GO_S = 1.0  # a thread that takes longer does not get the processor


def world_size() -> int:
    """Number of processes of the default group, 1 without one."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Of this process, from 0."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank. Every rank must call it at the same step."""
    total = torch.tensor(int(flag), device=device)
    _run(lambda: distributed.all_reduce(total, op=distributed.ReduceOp.MAX), [total])
    return bool(total.item())


def of_each_rank(value: float, device: torch.device) -> list[float]:
    """The value of each rank, by rank. Every rank must call it at the same step."""
    own = torch.tensor([value], dtype=torch.float32, device=device)
    found = [torch.empty_like(own) for _ in range(world_size())]
    _run(lambda: distributed.all_gather(found, own), [own, *found])
    everyone: list[float] = torch.cat(found).tolist()  # one read for all ranks
    return everyone


def _run(collective: Callable[[], object], tensors: list[torch.Tensor]) -> None:
    """Run a collective until no thread of its backend holds the tensors.

    A thread of Gloo lets go of them a moment after the result is there, and needs the interpreter for it. Where the
    interpreter has ended by then, the process aborts: "terminate called without an active exception"
    (https://github.com/pytorch/pytorch/pull/179291). Tensors on a device belong to NCCL, which lets go of them later.
    """
    held = list(map(sys.getrefcount, tensors))
    collective()
    if tensors[0].device.type != "cpu":
        return
    until = monotonic() + LET_GO_S
    while any(n > m for n, m in zip(map(sys.getrefcount, tensors), held, strict=True)) and monotonic() < until:
        sleep(0)
