"""A thread that notices when nothing of the run is heard any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from failguard.core.log import logger
from failguard.resources.stacks import is_at_prompt, signature

__all__ = ["HangWatch"]

LOOK_EVERY_S = 1.0
QUIET_S = 10.0  # shorter pauses are not looked at more closely
IDLE_CPU_SHARE = 0.2  # of a core, of this process and its children together


class HangWatch:
    """Looks once a second whether the run has moved on. It only reads; it never touches the training.

    While all is well a look is one comparison. In a longer pause the place of the training thread and the CPU time of
    the processes are sampled.
    """

    def __init__(self, beat: Callable[[], object], on_pause: Callable[[Mapping[str, float]], bool]) -> None:
        """Args:
        beat: Gives another value whenever the run has moved on.
        on_pause: Called with ``idle_s``, ``still_s`` and ``longest_pause_s`` while nothing moves. ``True``: this pause
            is dealt with.
        """
        self._beat = beat
        self._on_pause = on_pause
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.training_thread = threading.get_ident()
        self.look_every_s = LOOK_EVERY_S
        self.quiet_s = QUIET_S

    def start(self) -> None:
        """Start to watch; the calling thread is the one that trains."""
        self.training_thread = threading.get_ident()
        self._thread = threading.Thread(target=self._run, name="failguard-hang-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(self.look_every_s + 1.0)

    def _run(self) -> None:
        try:
            self._watch()
        except Exception:  # noqa: BLE001 - the thread must not print to the user's stderr
            logger.debug("failguard: the watch for hangs ended", exc_info=True)

    def _watch(self) -> None:
        last, since = self._beat(), time.monotonic()
        looked_at = since
        longest_s = 0.0
        is_dealt_with = False
        still: _Stillness | None = None
        while not self._stop.wait(self.look_every_s):
            now = time.monotonic()
            if now - looked_at > 10 * self.look_every_s + 5:  # the machine was suspended: that time does not count
                since += now - looked_at
            looked_at = now
            beat = self._beat()
            if beat != last:
                longest_s = max(longest_s, now - since)
                last, since = beat, now
                is_dealt_with, still = False, None
                continue
            if is_dealt_with or now - since < self.quiet_s:
                continue
            if is_at_prompt(self.training_thread):  # nobody trains
                since, still = now, None
                continue
            still = _Stillness(self.training_thread) if still is None else still
            values = {"idle_s": now - since, "still_s": still.seconds(), "longest_pause_s": longest_s}
            is_dealt_with = self._on_pause(values)


class _Stillness:
    """For how long a thread has been in one place while nobody used the CPU."""

    def __init__(self, thread: int) -> None:
        self._thread = thread
        self._place = signature(thread)
        self._since = self._cpu_at = time.monotonic()
        self._cpu_s = _cpu_s()

    def seconds(self) -> float:
        """Up to now, in seconds."""
        now, place = time.monotonic(), signature(self._thread)
        moved = place != self._place
        if now - self._cpu_at >= 5.0:
            used_s = _cpu_s()
            moved = moved or used_s - self._cpu_s > IDLE_CPU_SHARE * (now - self._cpu_at)
            self._cpu_s, self._cpu_at = used_s, now
        if moved:
            self._place, self._since = place, now
        return now - self._since


def _cpu_s() -> float:
    """CPU time of this process and its children so far."""
    used_s = time.process_time()
    try:
        import psutil

        for child in psutil.Process().children(recursive=True):
            times = child.cpu_times()
            used_s += times.user + times.system
    except Exception:  # noqa: BLE001 - one has just ended, or the platform does not tell
        pass
    return used_s
