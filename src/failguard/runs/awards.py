"""Awards for failing well, after the source: each with its rule and the runs behind it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from failguard.diagnosis.wording import count
from failguard.report.outcome import Outcome
from failguard.report.summary import percent
from failguard.runs.classification import SYSTEM_CAUSES, SYSTEM_FINDINGS
from failguard.runs.entry import RunEntry
from failguard.runs.judged import JudgedRun, end_of, member_of, start_of
from failguard.runs.lessons import current_notes
from failguard.runs.metrics import LearningMetrics
from failguard.runs.regions import changed_values, region_of

__all__ = ["Award", "awards", "pivots_of"]

MOST_OF_PLAN = 0.5
NOBODY = "(no member named)"


@dataclass(frozen=True, slots=True)
class Award:
    """An award.

    Attributes:
        name: ``"Fast Fail"``, ``"Learning Champion"`` or ``"Pivot Master"``.
        rule: For what it is given.
        members: Who gets it, in the order of the alphabet; several where they tie.
        why: What they did, in one sentence.
        runs: The runs behind it, oldest first.
    """

    name: str
    rule: str
    members: tuple[str, ...]
    why: str
    runs: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The award as plain values, for JSON."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def awards(metrics: LearningMetrics) -> list[Award]:
    """The awards of a window or of a part of one. An award for which nobody qualifies is left out."""
    found = (_fast_fail(metrics), _learning_champion(metrics), _pivot_master(metrics))
    return [award for award in found if award is not None]


def _fast_fail(metrics: LearningMetrics) -> Award | None:
    """The failure that took the least of its plan."""
    rule = (
        "A new failure that was stopped, not raised, after the smallest share of its plan, half of it at most; neither "
        "a repeat nor the machine's."
    )
    shares: dict[str, float] = {}
    for j in metrics.judged:
        e = j.entry
        is_system = e.cause in SYSTEM_CAUSES or e.finding in SYSTEM_FINDINGS
        if e.failed and e.status == "stopped" and j.repeat_of is None and not is_system and e.steps and e.planned_steps:
            shares[e.run_id] = e.steps / e.planned_steps
    least = min(shares.values(), default=1.0)
    if least > MOST_OF_PLAN:
        return None
    best = [e for e in metrics.entries if shares.get(e.run_id) == least]
    steps = " and ".join(dict.fromkeys(f"{count(e.steps or 0)} of {count(e.planned_steps or 0)} steps" for e in best))
    why = f"Stopped after {steps} ({percent(least)} of the plan)."
    return Award("Fast Fail", rule, _names([member_of(e, metrics.member_tag) for e in best]), why, _ids(best))


def _learning_champion(metrics: LearningMetrics) -> Award | None:
    """The author of most lessons on failures."""
    rule = "The most lessons written on failed runs; the same text counts once."
    written: dict[str, dict[str, RunEntry]] = defaultdict(dict)
    for entry in metrics.entries:
        if entry.failed:
            for note in current_notes(entry, ("lesson",)):
                author = note.author or member_of(entry, metrics.member_tag)
                written[author].setdefault(" ".join(note.text.casefold().split()), entry)
    most = max((len(lessons) for lessons in written.values()), default=0)
    if not most:
        return None
    best = [author for author, lessons in written.items() if len(lessons) == most]
    runs = {e.run_id: e for author in best for e in written[author].values()}
    why = f"{count(most)} lesson{'s' if most > 1 else ''} from {_runs(len(runs))} that failed."
    return Award("Learning Champion", rule, _names(best), why, _ids(sorted(runs.values(), key=start_of)))


def _pivot_master(metrics: LearningMetrics) -> Award | None:
    """The member with most pivots."""
    rule = (
        "The most pivots: a failure, and then the first success of the same line of work, in another region of "
        "configurations or by another approach."
    )
    by_member: dict[str, list[tuple[RunEntry, RunEntry]]] = defaultdict(list)
    counted = {e.run_id for e in metrics.entries}
    for failure, success in pivots_of(metrics.known):
        if success.run_id in counted:
            by_member[member_of(success, metrics.member_tag)].append((failure, success))
    most = max((len(pivots) for pivots in by_member.values()), default=0)
    if not most:
        return None
    best = [member for member, pivots in by_member.items() if len(pivots) == most]
    told = [pivot for member in best for pivot in by_member[member]]
    failure, success = told[-1]
    changes = ", ".join(str(change) for change in changed_values(failure, success)[:3])
    why = f"{count(most)} pivot{'s' if most > 1 else ''}, the last in {success.line}: {changes or success.approach}."
    runs = {e.run_id: e for pivot in told for e in pivot}
    return Award("Pivot Master", rule, _names(best), why, _ids(sorted(runs.values(), key=start_of)))


def pivots_of(judged: Sequence[JudgedRun]) -> list[tuple[RunEntry, RunEntry]]:
    """Each success that ended one failure or more by a change of direction, with the last such failure.

    The change is to another region of configurations, or to another approach where both runs name one.
    """
    last: dict[str, tuple[RunEntry, RunEntry]] = {}
    for j in judged:
        if j.recovered_by is not None:
            known = last.get(j.recovered_by.run_id)
            if known is None or end_of(j.entry) >= end_of(known[0]):
                last[j.recovered_by.run_id] = (j.entry, j.recovered_by)
    return [pivot for pivot in last.values() if _is_pivot(*pivot)]


def _is_pivot(failure: RunEntry, success: RunEntry) -> bool:
    if success.outcome is not Outcome.SUCCESS:
        return False
    a, b = region_of(failure), region_of(success)
    other_way = bool(failure.approach and success.approach) and failure.approach != success.approach
    return other_way or (a is not None and b is not None and not a.matches(b))


def _names(members: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted({member or NOBODY for member in members}))


def _ids(entries: Sequence[RunEntry]) -> tuple[str, ...]:
    return tuple(e.run_id for e in entries)


def _runs(n: int) -> str:
    return f"{count(n)} run{'' if n == 1 else 's'}"
