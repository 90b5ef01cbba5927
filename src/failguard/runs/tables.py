"""Failures by cause, and failures that came back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from failguard.runs.figures import mean_of, total_of
from failguard.runs.judged import JudgedRun

__all__ = ["CauseRow", "RepeatedFailure", "cause_rows", "repeated_failures"]

NO_CAUSE = "unknown"


@dataclass(frozen=True, slots=True)
class CauseRow:
    """Failures of one likely cause.

    Attributes:
        cause: Its code; ``"unknown"`` where a failure has none.
        failures: How many.
        share: Of all failures, 0 to 1.
        repeats: How many repeat an earlier one.
        recovered: How many had a later success in their line of work.
        recovery_h: Mean hours until then.
        wasted_h, wasted_gpu_h: Sums over those where it is known.
        runs: Their ids, oldest first.
    """

    cause: str
    failures: int
    share: float
    repeats: int
    recovered: int
    recovery_h: float | None
    wasted_h: float | None
    wasted_gpu_h: float | None
    runs: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values, for JSON."""
        return _plain(self)


@dataclass(frozen=True, slots=True)
class RepeatedFailure:
    """One failure that occurred more than once.

    Attributes:
        fingerprint: Its identity.
        finding, cause: Of the latest.
        times: How often it occurred until then, in the whole window.
        runs: The runs, oldest first.
        lines: Their lines of work.
        wasted_h: Hours wasted in the repeats that are told of, where known.
        lessons: What was written about it, the latest first.
    """

    fingerprint: str
    finding: str | None
    cause: str | None
    times: int
    runs: tuple[str, ...]
    lines: tuple[str, ...]
    wasted_h: float | None
    lessons: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The row as plain values, for JSON."""
        return _plain(self)


def cause_rows(judged: Sequence[JudgedRun]) -> list[CauseRow]:
    """A row for each likely cause of a failure, the most frequent first, then by name."""
    failures = [j for j in judged if j.entry.failed]
    groups = _groups(failures, lambda j: j.entry.cause or NO_CAUSE)
    rows = [
        CauseRow(
            cause,
            len(group),
            len(group) / len(failures),
            sum(j.repeat_of is not None for j in group),
            sum(j.recovery_h is not None for j in group),
            mean_of([j.recovery_h for j in group if j.recovery_h is not None]),
            total_of([j.entry.wasted_h for j in group if j.entry.wasted_h is not None]),
            total_of([j.entry.wasted_gpu_h for j in group if j.entry.wasted_gpu_h is not None]),
            tuple(j.entry.run_id for j in group),
        )
        for cause, group in groups.items()
    ]
    return sorted(rows, key=lambda row: (-row.failures, row.cause))


def repeated_failures(judged: Sequence[JudgedRun], known: Sequence[JudgedRun]) -> list[RepeatedFailure]:
    """Fingerprints of which a failure in ``judged`` is a repeat, the most frequent first, then by fingerprint.

    Args:
        judged: The runs that are told of.
        known: All runs of the window, by start: how often it occurred until then.
    """
    groups = _groups([j for j in known if j.entry.failed and j.entry.fingerprint], lambda j: str(j.entry.fingerprint))
    theirs = _groups([j for j in judged if j.repeat_of is not None], lambda j: str(j.entry.fingerprint))
    rows = []
    for fingerprint, repeats in theirs.items():
        last = repeats[-1].entry
        runs = [j.entry for j in groups[fingerprint]]
        runs = runs[: next(i for i, e in enumerate(runs) if e.run_id == last.run_id) + 1]
        lessons = [text for e in reversed(runs) for text in e.lessons]
        rows.append(
            RepeatedFailure(
                fingerprint,
                last.finding,
                last.cause,
                len(runs),
                tuple(e.run_id for e in runs),
                tuple(dict.fromkeys(e.line for e in runs)),
                total_of([j.entry.wasted_h for j in repeats if j.entry.wasted_h is not None]),
                tuple(dict.fromkeys(lessons)),
            )
        )
    return sorted(rows, key=lambda row: (-row.times, row.fingerprint))


def _groups(judged: Sequence[JudgedRun], key: Callable[[JudgedRun], str]) -> dict[str, list[JudgedRun]]:
    groups: dict[str, list[JudgedRun]] = defaultdict(list)
    for j in judged:
        groups[key(j)].append(j)
    return groups


def _plain(row: CauseRow | RepeatedFailure) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in row.__slots__}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
