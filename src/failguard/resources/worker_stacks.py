"""Stacks of child processes that were forked while a run was watched, such as the workers of a data loader.

Each such child has Python's own ``faulthandler`` listen to one real-time signal that nobody else uses. It costs the
child one open file, and nothing happens until a hang was found. Children of other start methods have no stacks.
"""

from __future__ import annotations

import faulthandler
import os
import secrets
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from failguard.core.redaction import redact_text

__all__ = ["WorkerStacks"]

WAIT_S = 2.0
MOST_CHARACTERS = 20_000

_folder: str | None = None  # where children write, for all runs of this process; None: no run is watched
_runs = 0  # that are watched
_is_registered = False
_lock = threading.Lock()
_file: Any = None  # in a child; faulthandler needs it to stay open


def _signal() -> int | None:
    """The signal, ``None`` on a platform without real-time signals."""
    last = getattr(signal, "SIGRTMAX", None)
    return None if last is None or not hasattr(faulthandler, "register") else int(last) - 5


def _in_child() -> None:
    """After a fork: have faulthandler listen. Never raises."""
    global _file, _lock
    _lock = threading.Lock()  # a thread that is not here may have held the old one
    number = _signal()
    if _folder is None or number is None:
        return
    try:
        if signal.getsignal(number) is signal.SIG_DFL:
            os.makedirs(_folder, mode=0o700, exist_ok=True)
            _file = open(f"{_folder}/{os.getpid()}", "w", encoding="utf-8")  # noqa: SIM115 - stays open
            faulthandler.register(number, file=_file, all_threads=True)
    except Exception:  # noqa: BLE001 - the child must live whatever happens
        pass


class WorkerStacks:
    """Prepares children for the time of one run. Nothing is done to this process itself."""

    def __init__(self) -> None:
        self._is_watched = False

    def start(self) -> None:
        """From now on, forked children can tell their stacks. Does nothing where the platform cannot."""
        global _folder, _runs, _is_registered
        if self._is_watched or _signal() is None or not hasattr(os, "register_at_fork"):
            return
        self._is_watched = True
        with _lock:
            _runs += 1
            if _folder is None:  # made by the first child that needs it
                name = f"failguard_stacks_{os.getpid()}_{secrets.token_hex(8)}"
                _folder = os.path.join(tempfile.gettempdir(), name)
            if not _is_registered:
                os.register_at_fork(after_in_child=_in_child)
                _is_registered = True

    def stop(self) -> None:
        """Later children are left alone, unless another run is watched."""
        global _folder, _runs
        if not self._is_watched:
            return
        self._is_watched = False
        with _lock:
            _runs -= 1
            if _runs or _folder is None:
                return
            folder, _folder = _folder, None
        import shutil

        shutil.rmtree(folder, ignore_errors=True)

    def collect(self, pids: list[int]) -> dict[int, str]:
        """Ask children for their stacks, and wait for them for two seconds at most.

        Args:
            pids: Children of this process.

        Returns:
            The stacks by process, as ``faulthandler`` writes them, innermost call first.
        """
        folder, number = _folder, _signal()
        if not self._is_watched or folder is None or number is None:
            return {}
        asked = []
        for pid in pids:
            path = Path(folder, str(pid))
            if path.exists() and _listens(pid, number):
                try:
                    os.kill(pid, number)
                except OSError:  # it has just ended
                    continue
                asked.append((pid, path))
        until = time.monotonic() + WAIT_S
        while time.monotonic() < until and any(path.stat().st_size == 0 for _, path in asked):
            time.sleep(0.02)
        time.sleep(0.05)  # what is being written is complete by then
        found = {}
        for pid, path in asked:
            try:
                text = path.read_text(encoding="utf-8", errors="replace")[-MOST_CHARACTERS:]
            except OSError:
                continue
            if text:
                found[pid] = redact_text(text)
        return found


def _listens(pid: int, number: int) -> bool:
    """Whether the process has a handler for the signal: after an ``exec`` it would end from it instead."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    for line in status.splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False
