"""Where every thread of this process is, and what is known of its child processes."""

from __future__ import annotations

import sys
import threading
import traceback
from types import FrameType
from typing import Any

from failguard.core.redaction import redact_text

__all__ = ["is_at_prompt", "place_of", "signature", "thread_stacks", "worker_states"]

MOST_FRAMES = 60
MOST_WORKERS = 64
_OWN = "failguard-"  # threads of our own begin so


def thread_stacks(first: int | None = None) -> dict[str, str]:
    """The stack of each thread as Python prints it, innermost call last.

    Args:
        first: Identity of the thread to name first.
    """
    frames = sys._current_frames()
    names = {t.ident: t.name for t in threading.enumerate()}
    order = sorted(frames, key=lambda ident: ident != first)
    found = {}
    for ident in order:
        name = names.get(ident, f"thread {ident}")
        if name.startswith(_OWN):
            continue
        text = "".join(traceback.format_stack(frames[ident])[-MOST_FRAMES:])
        found[name if name not in found else f"{name} ({ident})"] = redact_text(text)
    return found


def signature(ident: int) -> tuple[tuple[str, int], ...]:
    """The place of a thread as something to compare: file and line of each call; empty where it has ended."""
    frame: FrameType | None = sys._current_frames().get(ident)
    places = []
    while frame is not None:
        places.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return tuple(places)


def is_at_prompt(ident: int) -> bool:
    """Whether a thread runs no code of the user's: a notebook between two cells, or an interactive session."""
    files = [file.replace("\\", "/") for file, _ in signature(ident)]
    if not files:
        return True
    is_kernel = any("/ipykernel/" in file or "/IPython/" in file or "/code.py" in file for file in files)
    runs_cell = any(
        "/ipykernel_" in file or (file.startswith("<") and not file.startswith("<frozen")) for file in files
    )
    return is_kernel and not runs_cell


def place_of(ident: int) -> str | None:
    """The innermost call of a thread, as ``"function (file.py:12)"``."""
    frame = sys._current_frames().get(ident)
    if frame is None:
        return None
    file = frame.f_code.co_filename.replace("\\", "/").rsplit("/", 1)[-1]
    return f"{frame.f_code.co_name} ({file}:{frame.f_lineno})"


def worker_states() -> list[dict[str, Any]]:
    """What the system tells of the child processes: ``pid``, ``name``, ``state``, ``cpu_s``, and on Linux ``waits_in``
    (the kernel's function).
    """
    import psutil

    found: list[dict[str, Any]] = []
    for child in psutil.Process().children(recursive=True)[:MOST_WORKERS]:
        worker: dict[str, Any] = {"pid": child.pid}
        try:
            worker |= {"name": child.name(), "state": str(child.status())}
            times = child.cpu_times()
            worker["cpu_s"] = times.user + times.system
            with open(f"/proc/{child.pid}/wchan", encoding="ascii", errors="replace") as file:
                waits_in = file.read(64).strip("\0\n 0")
            if waits_in:
                worker["waits_in"] = waits_in
        except Exception:  # noqa: BLE001 - it ended, or the platform does not tell
            pass
        found.append(worker)
    return found
