"""What holds on to memory, and how data is loaded: told from the objects that are alive, when a finding asks for it."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from failguard.core.finding import Finding

__all__ = ["explain"]

MANY_TENSORS = 64  # with a history, between two steps; usual are a few
LONG = 64  # elements of a container of tensors


def explain(finding: Finding, batch_size: int | None) -> Mapping[str, float]:
    """More evidence for a finding about resources.

    It walks once over all objects that Python's garbage collector knows, which takes some tens of milliseconds.

    Args:
        finding: ``resource.memory_growth``, ``resource.gpu_memory_growth`` or ``resource.input_bound``; for others
            there is nothing to add.
        batch_size: Of the training, to tell its loader from others.

    Returns:
        For memory ``tensors_with_history`` (tensors that hold on to the graph they came from) and ``longest_list`` (the
        most tensors in one list, dict or deque); for data ``num_workers`` and ``pin_memory`` (1 or 0).
    """
    if finding.code in ("resource.memory_growth", "resource.gpu_memory_growth"):
        return _holders()
    if finding.code == "resource.input_bound":
        return _loader(batch_size)
    return {}


def _holders() -> dict[str, float]:
    with_history = longest = 0
    for thing in gc.get_objects():
        kind = type(thing)  # isinstance would ask proxies, which may do anything
        if issubclass(kind, Tensor):
            with_history += thing.grad_fn is not None
        elif kind in (list, deque, dict) and len(thing) >= LONG and len(thing) > longest:
            first = next(iter(thing.values() if kind is dict else thing), None)
            if issubclass(type(first), Tensor):
                longest = len(thing)
    found: dict[str, float] = {"tensors_with_history": float(with_history)}
    if longest:
        found["longest_list"] = float(longest)
    return found


def _loader(batch_size: int | None) -> dict[str, float]:
    loaders: list[Any] = [o for o in gc.get_objects() if issubclass(type(o), DataLoader)]
    fitting = [loader for loader in loaders if loader.batch_size == batch_size] or loaders
    workers = {int(loader.num_workers) for loader in fitting}
    if len(workers) != 1:  # none, or it is not clear which one trains
        return {}
    return {"num_workers": float(workers.pop()), "pin_memory": float(any(bool(ld.pin_memory) for ld in fitting))}
