"""Where a trainer writes checkpoints, and how large they are."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["checkpoint_bytes", "checkpoint_folders"]


def checkpoint_folders(trainer: Any) -> list[str]:
    """Local folders that checkpoints go to."""
    found = [getattr(callback, "dirpath", None) or trainer.default_root_dir for callback in _callbacks(trainer)]
    return list(dict.fromkeys(os.fspath(f) for f in found if f and "://" not in os.fspath(f)))


def checkpoint_bytes(trainer: Any) -> float | None:
    """Size of the newest checkpoint on a local disk; ``None`` where there is none."""
    paths = [
        getattr(callback, name, None)
        for callback in _callbacks(trainer)
        for name in ("last_model_path", "best_model_path")
    ]
    sizes = []
    for path in paths:
        try:
            if path:
                sizes.append((os.path.getmtime(path), _size(path)))
        except (OSError, ValueError):  # it is elsewhere, or was removed
            continue
    return float(max(sizes)[1]) if sizes else None


def _callbacks(trainer: Any) -> list[Any]:
    return list(getattr(trainer, "checkpoint_callbacks", None) or ())


def _size(path: str) -> int:
    """Of a file, or of a folder as sharded strategies write it."""
    if not os.path.isdir(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(path) for name in names)
