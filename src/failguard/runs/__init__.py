"""The team's memory: the registry of runs, their records, post-mortems, learning metrics and known failures.

Names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from failguard.runs.entry import Note, RunEntry
    from failguard.runs.index import RunIndex
    from failguard.runs.memory_settings import FailureMemory
    from failguard.runs.metrics import LearningMetrics
    from failguard.runs.post_mortems import post_mortem
    from failguard.runs.record import ExperimentRecord
    from failguard.runs.registry import Registry

_HOMES = {
    "ExperimentRecord": "failguard.runs.record",
    "FailureMemory": "failguard.runs.memory_settings",
    "LearningMetrics": "failguard.runs.metrics",
    "Note": "failguard.runs.entry",
    "Registry": "failguard.runs.registry",
    "RunEntry": "failguard.runs.entry",
    "RunIndex": "failguard.runs.index",
    "post_mortem": "failguard.runs.post_mortems",
}

__all__ = [
    "ExperimentRecord",
    "FailureMemory",
    "LearningMetrics",
    "Note",
    "Registry",
    "RunEntry",
    "RunIndex",
    "post_mortem",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'failguard.runs' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
