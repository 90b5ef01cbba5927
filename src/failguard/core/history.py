"""What was measured so far, in bounded memory: the newest values in full, the whole run in blocks."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from failguard.core.facts import Facts
from failguard.core.improvement import Improvement
from failguard.core.internals import Internals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

__all__ = ["LEARNING_RATES", "Block", "History", "Series"]

RECENT = 4096  # newest values kept in full
ROOM = 2 * RECENT  # then the older half makes room: each value is moved once on average
FIRST = 256  # oldest values kept in full: where the run started
BLOCKS = 1024  # the whole run, as at most this many blocks
LEARNING_RATES = ("learning_rate", "lr")  # names under which frameworks log it
FIRST_INTERNALS, RECENT_INTERNALS = 4, 60  # samples of what goes on inside that are kept


@dataclass(slots=True)
class Block:
    """Values of consecutive points, reduced. ``mean``, ``low`` and ``high`` are over the finite ones.

    Attributes:
        start: Step (or epoch) of the first point.
        count: Number of points.
        finite: Number of finite points.
        mean, low, high: NaN when no point is finite.
    """

    start: int
    count: int
    finite: int
    mean: float
    low: float
    high: float

    @classmethod
    def point(cls, start: int, value: float) -> Block:
        """A block of one point."""
        if math.isfinite(value):
            return cls(start, 1, 1, value, value, value)
        return cls(start, 1, 0, math.nan, math.nan, math.nan)

    @classmethod
    def of(cls, start: int, values: array[float]) -> Block:
        """A block of consecutive points, of which there is at least one."""
        count = len(values)
        total = sum(values)
        if count > 1 and total - total == 0.0:  # all are finite, and so is their sum
            return cls(start, count, count, total / count, min(values), max(values))
        block = cls.point(start, values[0])
        for value in values[1:]:
            block.absorb(cls.point(start, value))
        return block

    def absorb(self, other: Block) -> None:
        """Take in the block that follows this one."""
        self.count += other.count
        if other.finite == 0:
            return
        if self.finite == 0:
            self.finite, self.mean, self.low, self.high = other.finite, other.mean, other.low, other.high
            return
        total = self.finite + other.finite
        # Each weight is below one, so the mean of values near the float limit does not overflow.
        self.mean = self.mean * (self.finite / total) + other.mean * (other.finite / total)
        self.finite = total
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)


class Series:
    """One quantity over steps or epochs.

    ``append`` is on the hot path: it only appends to two arrays of machine numbers, so that a step leaves no object
    behind. Blocks are made when they are asked for, or when old values make room.
    The first 256 and the newest 4,096 values are kept in full, the whole run as at most 1,024 blocks.
    """

    __slots__ = ("_block_size", "_blocks", "_first", "_in_blocks", "_let_go", "_steps", "_values")

    def __init__(self) -> None:
        self._steps = array("q")
        self._values = array("d")
        self._let_go = 0  # values that are no longer in full
        self._in_blocks = 0  # of those in full, how many are in blocks
        self._first = array("d")  # filled when the first values are let go
        self._blocks: list[Block] = []
        self._block_size = 1

    def append(self, step: int, value: float) -> None:
        """Add one value. Steps must not decrease."""
        self._steps.append(step)
        values = self._values
        values.append(value)
        if len(values) >= ROOM:
            self._make_room()

    def extend(self, first_step: int, values: Sequence[float]) -> None:
        """Add values of consecutive steps."""
        self._steps.extend(range(first_step, first_step + len(values)))
        self._values.extend(values)
        if len(self._values) >= ROOM:
            self._make_room()

    def __len__(self) -> int:
        """Number of values ever added."""
        return self._let_go + len(self._values)

    @property
    def values(self) -> Floats:
        """The newest values (at most 4,096), oldest first. float64, shape (n,). Not finite ones included."""
        return self.recent(RECENT)

    @property
    def steps(self) -> Ints:
        """Steps (or epochs) of :attr:`values`. int64, shape (n,)."""
        import numpy as np

        return np.array(self._steps[-RECENT:], dtype=np.int64)

    def recent(self, n: int) -> Floats:
        """The newest ``n`` values or fewer, oldest first. float64, shape (<= n,)."""
        import numpy as np

        return np.array(self._values[-min(n, RECENT) :], dtype=np.float64)

    def first(self, n: int) -> Floats:
        """The oldest ``n`` values or fewer (at most 256). float64, shape (<= n,)."""
        import numpy as np

        return np.array((self._first or self._values)[: min(n, FIRST)], dtype=np.float64)

    @property
    def last(self) -> float | None:
        """The newest value, ``None`` before the first."""
        return self._values[-1] if self._values else None

    @property
    def last_step(self) -> int | None:
        """Step (or epoch) of :attr:`last`."""
        return self._steps[-1] if self._steps else None

    def blocks(self) -> tuple[Block, ...]:
        """The whole run, reduced to at most 1,024 blocks of equal size, oldest first."""
        self._make_blocks()
        return tuple(self._blocks)

    def _make_room(self) -> None:
        """Let go of all but the newest values."""
        self._make_blocks()
        if not self._first:
            self._first = self._values[:FIRST]
        self._let_go += len(self._values) - RECENT
        # New arrays rather than a deletion in place, which would keep the room of the old ones.
        self._steps, self._values = self._steps[-RECENT:], self._values[-RECENT:]
        self._in_blocks = RECENT

    def _make_blocks(self) -> None:
        """Take the values that are in no block yet into blocks."""
        at, self._in_blocks = self._in_blocks, len(self._values)
        blocks = self._blocks
        while at < self._in_blocks:
            left = self._block_size - blocks[-1].count if blocks else 0
            if left > 0:
                part = self._values[at : at + left]
                blocks[-1].absorb(Block.of(self._steps[at], part))
                at += len(part)
                continue
            if len(blocks) >= BLOCKS:
                self._halve()
                continue
            part = self._values[at : at + self._block_size]
            blocks.append(Block.of(self._steps[at], part))
            at += len(part)

    def _halve(self) -> None:
        """Merge the blocks in pairs."""
        blocks = self._blocks
        for i in range(0, len(blocks) - 1, 2):
            blocks[i].absorb(blocks[i + 1])
        del blocks[1::2]
        self._block_size *= 2

    def state_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`load_state_dict` takes back."""
        self._make_blocks()
        return {
            "count": len(self),
            "block_size": self._block_size,
            "blocks": [(b.start, b.count, b.finite, b.mean, b.low, b.high) for b in self._blocks],
            "first": (self._first or self._values)[:FIRST].tolist(),
            "steps": self._steps[-RECENT:].tolist(),
            "values": self._values[-RECENT:].tolist(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self._steps = array("q", state["steps"])
        self._values = array("d", state["values"])
        self._let_go = int(state["count"]) - len(self._values)
        self._in_blocks = len(self._values)
        self._first = array("d", state["first"] if self._let_go else ())
        self._block_size = int(state["block_size"])
        self._blocks = [Block(*b) for b in state["blocks"]]


@dataclass(slots=True)
class History:
    """Everything that detectors may look at.

    Attributes:
        steps: Quantities per training batch: ``"loss"``, ``"gradient_norm"`` (only at the steps where it was taken),
            ``"step_s"`` (seconds from one batch's end to the next), ``"loss_scale"`` (of mixed precision),
            ``"process_memory_bytes"`` and ``"gpu_memory_bytes"`` (at the ends of some steps), ``"data_wait_share"``
            (of the time of some steps in a row, 0 to 1).
        epochs: Metrics per epoch under the name they were logged with. ``"train_loss"`` is always the mean of the
            step losses of the epoch where those are known.
        improvement: The monitored metric's best epoch and the epochs waited since.
        monitor: Name of the monitored metric.
        facts: What is known of the model, optimizer, schedule and data.
        internals: Samples of what goes on inside the model, oldest first: the first 4 and the newest 60.
        machine: Readings of the machine, about one a second, by the step in progress; ``"elapsed_s"`` is their time
            since the start of the run. They are in no checkpoint and in no row of :meth:`rows`.
        first_epoch_end: Step after the last one of the first epoch that this process saw, ``None`` until then.
    """

    monitor: str = "val_loss"
    improvement: Improvement = field(default_factory=Improvement)
    facts: Facts = field(default_factory=Facts)
    steps: dict[str, Series] = field(default_factory=dict)
    epochs: dict[str, Series] = field(default_factory=dict)
    internals: list[Internals] = field(default_factory=list)
    machine: dict[str, Series] = field(default_factory=dict)
    first_epoch_end: int | None = None

    def add_internals(self, reading: Internals) -> None:
        """Keep one more sample of what goes on inside."""
        self.internals.append(reading)
        if len(self.internals) > FIRST_INTERNALS + RECENT_INTERNALS:
            del self.internals[FIRST_INTERNALS]

    @property
    def learning_rates(self) -> Series | None:
        """The learning rate of each epoch, ``None`` where it is not known."""
        return next((self.epochs[name] for name in LEARNING_RATES if name in self.epochs), None)

    def step_series(self, name: str) -> Series:
        """The series of a per-step quantity; an empty one is made when there is none yet."""
        series = self.steps.get(name)
        if series is None:
            series = self.steps[name] = Series()
        return series

    def machine_series(self, name: str) -> Series:
        """The series of a reading of the machine; an empty one is made when there is none yet."""
        series = self.machine.get(name)
        if series is None:
            series = self.machine[name] = Series()
        return series

    def epoch_series(self, name: str) -> Series:
        """The series of a per-epoch metric; an empty one is made when there is none yet."""
        series = self.epochs.get(name)
        if series is None:
            series = self.epochs[name] = Series()
        return series

    def rows(self) -> Iterator[dict[str, Any]]:
        """The whole run in at most about 1,024 rows a quantity, for ``history.jsonl`` and plots.

        Yields:
            ``{"name", "per": "step" | "epoch", "start", "count", "finite", "mean", "low", "high"}``; the last three
            are ``None`` where no value of the block is finite.
        """
        for per, group in (("step", self.steps), ("epoch", self.epochs)):
            for name, series in group.items():
                for b in series.blocks():
                    bad = b.finite == 0
                    yield {
                        "name": name,
                        "per": per,
                        "start": b.start,
                        "count": b.count,
                        "finite": b.finite,
                        "mean": None if bad else b.mean,
                        "low": None if bad else b.low,
                        "high": None if bad else b.high,
                    }

    def state_dict(self) -> dict[str, Any]:
        """Plain values that :meth:`load_state_dict` takes back."""
        return {
            "improvement": self.improvement.state_dict(),
            "steps": {name: s.state_dict() for name, s in self.steps.items()},
            "epochs": {name: s.state_dict() for name, s in self.epochs.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.improvement.load_state_dict(state["improvement"])
        for group, saved in ((self.steps, state["steps"]), (self.epochs, state["epochs"])):
            for name, s in saved.items():
                series = group[name] = Series()
                series.load_state_dict(s)
