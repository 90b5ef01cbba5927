"""What each run of a window means for learning: a repeat, a recovery, something new, lessons that were applied."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from failguard.report.outcome import Outcome
from failguard.runs.entry import RunEntry
from failguard.runs.lessons import Judgement, LineOfWork, current_notes, judge
from failguard.runs.regions import region_of

__all__ = ["JudgedRun", "aware", "end_of", "judge_runs", "member_of", "start_of"]

MEMBER_TAGS = ("failguard.tag.member", "member")
DEFAULT_MEMBER_TAG = "mlflow.user"


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """One run, with what it means beside the others of the window.

    Attributes:
        entry: The run.
        repeat_of: The earlier run whose failure it repeats.
        recovered_by: The next success of its line of work, for a failure.
        recovery_h: Hours from the end of the failure to the end of that success.
        is_new: Its region of configurations was not tried before; ``None`` where nothing is known of it.
        lessons: Its lessons and next steps, judged.
    """

    entry: RunEntry
    repeat_of: RunEntry | None = None
    recovered_by: RunEntry | None = None
    recovery_h: float | None = None
    is_new: bool | None = None
    lessons: tuple[Judgement, ...] = ()


def aware(time: datetime) -> datetime:
    """A time with its zone; one without is taken as UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def start_of(entry: RunEntry) -> datetime:
    """When a run started."""
    return aware(entry.started_at)


def end_of(entry: RunEntry) -> datetime:
    """When a run ended; its start where that is not known, or where a clock was wrong."""
    start = start_of(entry)
    return start if entry.ended_at is None else max(aware(entry.ended_at), start)


def member_of(entry: RunEntry, tag: str = DEFAULT_MEMBER_TAG) -> str:
    """Whose run it is.

    Args:
        entry: The run.
        tag: The tag that says so. With the default, ``failguard.tag.member`` or ``member`` comes first where a run has
            it: ``FailGuard(tags={"member": "ada"})`` writes one of the two.

    Returns:
        ``""`` where no tag says it.
    """
    names = (*MEMBER_TAGS, tag) if tag == DEFAULT_MEMBER_TAG else (tag, f"failguard.tag.{tag}")
    found = next((entry.tags[name] for name in names if entry.tags.get(name)), "")
    return found or (entry.user if tag == DEFAULT_MEMBER_TAG else "")


def judge_runs(entries: Iterable[RunEntry]) -> list[JudgedRun]:
    """Judge runs beside each other, in the order of their starts (then of their ids).

    A run is *later* than another if it started when the other had ended: what runs at the same time can learn nothing
    from it. The order in which the entries are given does not matter, and an entry that comes twice counts once.
    """
    ordered = sorted({e.run_id: e for e in entries}.values(), key=lambda e: (start_of(e), e.run_id))
    lines: dict[str, list[RunEntry]] = defaultdict(list)
    for entry in ordered:
        lines[entry.line].append(entry)
    repeats, new = _repeats(ordered), _new_regions(ordered)
    recoveries: dict[str, RunEntry] = {}
    lessons: dict[str, tuple[Judgement, ...]] = {}
    for line in lines.values():
        recoveries.update(_recoveries(line))
        of_line = LineOfWork(line)
        for entry in line:
            notes = current_notes(entry)
            if notes:
                first = _first_later(entry, line)
                lessons[entry.run_id] = tuple(judge(entry, note, of_line, first) for note in notes)
    judged = []
    for entry in ordered:
        success = recoveries.get(entry.run_id)
        hours = None if success is None else (end_of(success) - end_of(entry)).total_seconds() / 3600.0
        judged.append(
            JudgedRun(
                entry,
                repeat_of=repeats.get(entry.run_id),
                recovered_by=success,
                recovery_h=hours,
                is_new=new.get(entry.run_id),
                lessons=lessons.get(entry.run_id, ()),
            )
        )
    return judged


def _first_later(entry: RunEntry, ordered: Sequence[RunEntry]) -> int:
    """Position of the first of ``ordered`` (by start, then by id) that started when ``entry`` had ended."""
    return bisect_left(ordered, max((end_of(entry), ""), (start_of(entry), f"{entry.run_id}\0")), key=_order)


def _repeats(ordered: list[RunEntry]) -> dict[str, RunEntry]:
    """Each failure whose fingerprint an earlier run had, with the first such run to end."""
    found: dict[str, RunEntry] = {}
    first_to_end: dict[str, RunEntry] = {}
    for entry in ordered:
        if entry.fingerprint is None:
            continue
        known = first_to_end.get(entry.fingerprint)
        if known is not None and entry.failed and end_of(known) <= start_of(entry):
            found[entry.run_id] = known
        if known is None or end_of(entry) < end_of(known):
            first_to_end[entry.fingerprint] = entry
    return found


def _recoveries(line: list[RunEntry]) -> dict[str, RunEntry]:
    """Each failure of a line with the later success that ended first."""
    successes = [e for e in line if e.outcome is Outcome.SUCCESS]
    # The first to end of each tail, so that a line of thousands of runs takes no time.
    best: list[RunEntry] = list(successes)
    for i in range(len(best) - 2, -1, -1):
        if end_of(best[i + 1]) < end_of(best[i]):
            best[i] = best[i + 1]
    found = {}
    for entry in line:
        if entry.failed:
            at = _first_later(entry, successes)
            if at < len(best):
                found[entry.run_id] = best[at]
    return found


def _order(entry: RunEntry) -> tuple[datetime, str]:
    return start_of(entry), entry.run_id


def _new_regions(ordered: list[RunEntry]) -> dict[str, bool]:
    found: dict[str, bool] = {}
    tried: dict[str, set[str | None]] = defaultdict(set)  # the setups of each configuration
    for entry in ordered:
        region = region_of(entry)
        if region is not None:
            setups = tried[region.config]
            # A setup that is not known, of this run or of one before, is no difference.
            known = bool(setups) if region.setup is None else bool({None, region.setup} & setups)
            found[entry.run_id] = not known
            setups.add(region.setup)
    return found
