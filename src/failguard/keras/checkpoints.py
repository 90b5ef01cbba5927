"""What a fit writes as checkpoints: where, how large, and how long it takes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import keras

from failguard.guard import Guard

__all__ = ["CheckpointWatch", "callbacks_of_fit"]

SAVES = (keras.callbacks.ModelCheckpoint, keras.callbacks.BackupAndRestore)
MOST_FRAMES = 8  # between a callback and the list that calls it


def callbacks_of_fit() -> list[Any]:
    """The callbacks of the fit that calls one of them right now; none where they cannot be found.

    Keras gives a callback no way to its neighbours, so the list is looked for among the callers.
    """
    frame = sys._getframe(1)
    for _ in range(MOST_FRAMES):
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList):
            return list(caller.callbacks)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return []


class CheckpointWatch:
    """Times the saving of Keras' own callbacks, which is wrapped on them for the time of one fit."""

    def __init__(self, callbacks: Sequence[Any], guard: Guard, on_save: Callable[[], None]) -> None:
        """Args:
        callbacks: Of the fit.
        guard: Is told of times, sizes and folders.
        on_save: Called after each: the time was no part of a step.
        """
        self._guard = guard
        self._on_save = on_save
        self._wrapped: list[tuple[Any, Any]] = []
        for callback in callbacks:
            if isinstance(callback, SAVES) and "_save_model" not in callback.__dict__:
                folder = _folder(callback)
                if folder is not None:
                    guard.resources.add_directory(folder)
                self._wrap(callback)

    def close(self) -> None:
        """Leave the callbacks as they were."""
        for callback, wrapper in self._wrapped:
            if callback.__dict__.get("_save_model") is wrapper:
                del callback.__dict__["_save_model"]
        self._wrapped = []

    def _wrap(self, callback: Any) -> None:
        original = callback._save_model

        def save(*args: Any, **kwargs: Any) -> Any:
            began = perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                seconds = perf_counter() - began
                self._guard.containment.run("checkpoints", self._saved, callback, args, kwargs, seconds)

        callback.__dict__["_save_model"] = save
        self._wrapped.append((callback, save))

    def _saved(self, callback: Any, args: tuple[Any, ...], kwargs: dict[str, Any], seconds: float) -> None:
        self._guard.spent("checkpoint", seconds)
        self._on_save()
        path = getattr(callback, "_weights_path", None)
        if isinstance(callback, keras.callbacks.ModelCheckpoint):
            path = callback._get_file_path(*args, **kwargs)
        try:
            size_bytes = os.path.getsize(str(path))
        except OSError:  # it was not the best one, or is elsewhere
            return
        self._guard.resources.note_checkpoint(float(size_bytes))


def _folder(callback: Any) -> str | None:
    """The local folder that a callback writes to."""
    path = str(getattr(callback, "filepath", None) or getattr(callback, "backup_dir", None) or "")
    if not path or "://" in path:
        return None
    return os.path.dirname(os.path.abspath(path)) if hasattr(callback, "filepath") else path
