"""Finished runs: ``analyze`` for logs and series, ``FailureDetector`` for a stream of metrics. Needs no framework."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from failguard.analyze.failure_detector import FailureDetector
from failguard.analyze.finished import analyze

__all__ = ["FailureDetector", "analyze"]


class _Callable(ModuleType):
    """``failguard.analyze`` names this package and the function. Importing the package binds the name to the package,
    so the package can be called like the function.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return analyze(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
