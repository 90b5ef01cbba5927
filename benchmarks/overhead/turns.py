"""Several trainings in one process that take turns of a few steps, so that they meet the same machine.

Noise of a machine comes in stretches longer than a turn: what is compared lies a few dozen milliseconds apart. Each
training has a thread of its own and waits at the start of a step until it is its turn. Orders alternate.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

__all__ = ["Block", "Participant", "Turns"]

LEAST_TICKS = 8  # of a warm-up, whatever it takes
EARLY_TICKS, EARLY_FACTOR = 160, 3  # a warm-up may take three times as long until there were so many
LEAD_IN = 2  # ticks of a turn that are not counted: caches are cold


@dataclass(frozen=True)
class Block:
    """One turn of one training.

    Attributes:
        median_s: Median time between two ticks, in seconds.
        cpu_s: CPU time of the process between two ticks, on average.
        ticks: Ticks counted.
    """

    median_s: float
    cpu_s: float
    ticks: int


@dataclass
class Participant:
    """One training.

    Attributes:
        name: Of what watches it.
        blocks: A block a round; ``None`` for a turn with no tick counted.
        ticks: Ticks in all.
        warm_at: Ticks when the counted part began.
        spent_at_warm_s, spent_s: What its watch says it has spent by then, and at the end.
        in_turns_s: How long its turns took.
        error: What it ended with, if it failed.
    """

    name: str
    train: Callable[[Callable[[], bool]], None]
    spent: Callable[[], float]
    blocks: list[Block | None] = field(default_factory=list)
    ticks: int = 0
    warm_at: int = 0
    spent_at_warm_s: float = 0.0
    spent_s: float = 0.0
    in_turns_s: float = 0.0
    error: BaseException | None = None
    is_over: bool = False
    go: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _wall: list[float] = field(default_factory=list)
    _cpu_from: float = 0.0


def own_threads_cpu_s() -> float:
    """CPU time that failguard's threads have taken so far, in seconds; 0 where threads have no clocks."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return 0.0
    idents = [t.ident for t in threading.enumerate() if t.name.startswith("failguard") and t.ident is not None]
    return sum(time.clock_gettime(time.pthread_getcpuclockid(ident)) for ident in idents)


class Turns:
    """Runs trainings in turns.

    Each warms up alone first, then rounds follow in which each has a turn; every second round in reverse order.

    Attributes:
        threads_share: CPU time of failguard's own threads, of all guards together, as a share of the time.
    """

    def __init__(
        self, participants: Sequence[Participant], *, turn_s: float, warm_up_s: float, warm_up_ticks: int
    ) -> None:
        """Args:
        participants: Who takes turns.
        turn_s: How long a turn is to last, in seconds.
        warm_up_s: How long a training warms up at most.
        warm_up_ticks: Ticks after which it is warm.
        """
        self.participants = list(participants)
        self._turn_s = turn_s
        self._warm_up_s, self._warm_up_ticks = warm_up_s, warm_up_ticks
        self._back = threading.Semaphore(0)
        self._is_warming = True
        self._is_over = False
        self._turn_ticks = 0
        self._began = 0.0
        self.threads_share = 0.0

    def run(self, seconds: float) -> None:
        """Let all train for so long after they are warm."""
        threads = [
            threading.Thread(target=self._train, args=(p,), name=f"training {p.name}", daemon=True)
            for p in self.participants
        ]
        step_s = []
        for p, thread in zip(self.participants, threads, strict=True):
            self._began = time.perf_counter()
            p.ticks = 0
            thread.start()
            self._back.acquire()
            p.warm_at, p.spent_at_warm_s = p.ticks, p.spent()
            newest = [b - a for a, b in zip(p._wall, p._wall[1:], strict=False)][-50:]
            if newest:
                step_s.append(statistics.median(newest))
        self._is_warming = False
        if step_s:
            self._turn_ticks = LEAD_IN + min(max(round(self._turn_s / statistics.median(step_s)), 4), 64)
        until, order = time.perf_counter() + seconds, list(self.participants)
        threads_cpu_s, began = own_threads_cpu_s(), time.perf_counter()
        rounds = 0
        while time.perf_counter() < until or rounds < 4:
            rounds += 1
            for p in order:
                self._give_turn(p)
            order.reverse()
            if any(p.error for p in self.participants):
                break
        self.threads_share = (own_threads_cpu_s() - threads_cpu_s) / (time.perf_counter() - began)
        for p in self.participants:
            p.spent_s = p.spent()
        self._is_over = True
        for p, thread in zip(self.participants, threads, strict=True):
            if not p.is_over:
                p.go.release()
            thread.join()

    def _give_turn(self, p: Participant) -> None:
        if p.is_over:
            p.blocks.append(None)
            return
        began = time.perf_counter()
        p.go.release()
        self._back.acquire()
        p.in_turns_s += time.perf_counter() - began
        times = [b - a for a, b in zip(p._wall[LEAD_IN:], p._wall[LEAD_IN + 1 :], strict=False)]
        if not times:
            p.blocks.append(None)
            return
        cpu_s = (time.process_time() - p._cpu_from) / len(times)
        p.blocks.append(Block(statistics.median(times), cpu_s, len(times)))

    def _train(self, p: Participant) -> None:
        try:
            p.train(lambda: self._tick(p))
        except BaseException as error:
            p.error = error
        p.is_over = True
        self._back.release()

    def _tick(self, p: Participant) -> bool:
        now = time.perf_counter()
        p.ticks += 1
        wall = p._wall
        wall.append(now)
        if self._is_over:
            return False
        if self._is_warming:
            passed_s = now - self._began
            # The first samples from inside come early whatever they cost: slow trainings are given time for them.
            is_early = p.ticks < EARLY_TICKS and passed_s < EARLY_FACTOR * self._warm_up_s
            is_cold = p.ticks < self._warm_up_ticks and (passed_s < self._warm_up_s or is_early)
            if p.ticks < LEAST_TICKS or is_cold:
                return True
        else:
            seen = len(wall) - 1
            if seen == LEAD_IN:
                p._cpu_from = time.process_time()
            if seen < self._turn_ticks:
                return True
        self._back.release()
        p.go.acquire()
        if self._is_over:
            return False
        wall.clear()
        wall.append(time.perf_counter())
        return True
