"""Hooks on the user's modules that leave no trace in copies and files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

__all__ = ["TracelessHook"]


class TracelessHook:
    """A forward hook that copies and pickles as one that does nothing.

    A module may be copied or saved as a whole while a hook is on it, for an average of weights or a checkpoint. The
    copy must not report to this run, and its file must not need failguard to be read.
    """

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., None]) -> None:
        """Args:
        function: Is called with whatever the hook is called with.
        """
        self._function = function

    def __call__(self, *args: Any) -> None:
        """The hook. It returns nothing, so it changes nothing."""
        self._function(*args)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # A callable of the standard library that takes anything and does nothing.
        return getattr, (nullcontext(), "__exit__")
