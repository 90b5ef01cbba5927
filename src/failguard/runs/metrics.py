"""Learning metrics: how a team learns from its runs. Pure functions of what the registry holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from typing import TYPE_CHECKING, Any

from failguard.errors import InputError
from failguard.runs.entry import RunEntry
from failguard.runs.figures import Figure
from failguard.runs.judged import DEFAULT_MEMBER_TAG, JudgedRun, end_of, judge_runs, member_of, start_of
from failguard.runs.learning_figures import FIGURES, figures_of
from failguard.runs.lessons import Judgement
from failguard.runs.tables import CauseRow, RepeatedFailure, cause_rows, repeated_failures

if TYPE_CHECKING:
    from failguard.runs.registry import Registry

__all__ = ["SATURATION_PER_WEEK", "WEIGHTS", "LearningMetrics", "monday_of"]

WEEK = timedelta(days=7)
NO_START = datetime.fromtimestamp(0, UTC)  # what an entry has whose store knows no start: it is in no window

# The source's weights and the velocity at which more runs a week count for nothing more.
WEIGHTS: Mapping[str, float] = {
    "lesson_application_rate": 0.3,
    "repeat_failure_rate": 0.3,
    "innovation_index": 0.2,
    "experiment_velocity": 0.2,
}
SATURATION_PER_WEEK = 10.0


class LearningMetrics:
    """How a team learns, over the runs that started in a window.

    Nothing outside the window is looked at: a failure is a repeat if its like is in the window, a success recovers a
    failure if both are. Each number says in :attr:`details` what it was computed from, with the runs behind it, and
    why it is ``None`` where it is. The order of the entries does not matter.

    Args:
        entries: Runs of the registry.
        since, until: The window, ``since`` included and ``until`` not; a time without a zone is local time.
            ``None``: from the first run, to the end of the last.
        member: Count the runs of this team member only. What the others did before still counts as known: their
            failures can be repeated, and their successes end a failure of the same line of work.
        member_tag: The tag that names the member; by default ``failguard.tag.member`` or ``member`` where a run has
            it, else ``mlflow.user``.
        zone: Weeks begin on Monday, midnight in this time zone.

    Attributes:
        judged: The runs that count, oldest first, with what each means beside the others.
        known: The same for all runs of the window, where ``judged`` are some of them.
        first, last: The window. An open side reaches to the first start or the last end; ``None`` without runs.
        weeks: Its length. A window that is open at a side is a week long at least: two runs in an hour are no hundreds
            a week.

    Raises:
        InputError: ``until`` is not after ``since``.
    """

    def __init__(
        self,
        entries: Iterable[RunEntry],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        member: str | None = None,
        member_tag: str = DEFAULT_MEMBER_TAG,
        zone: tzinfo = UTC,
    ) -> None:
        since, until = _bounds(since, until)
        judged = judge_runs(e for e in entries if start_of(e) > NO_START and _is_within(e, since, until))
        first = since or min((start_of(j.entry) for j in judged), default=None)
        last = until or max((end_of(j.entry) for j in judged), default=None)
        weeks = None if first is None or last is None else (last - first) / WEEK
        if weeks is not None and (since is None or until is None):
            weeks = max(weeks, 1.0)
        theirs = judged if member is None else [j for j in judged if member_of(j.entry, member_tag) == member]
        self._setup(theirs, judged, first, last, weeks, member_tag, zone)

    def _setup(
        self,
        judged: list[JudgedRun],
        known: list[JudgedRun],
        first: datetime | None,
        last: datetime | None,
        weeks: float | None,
        member_tag: str,
        zone: tzinfo,
    ) -> None:
        self.judged, self.known = judged, known
        self.first, self.last, self.weeks = first, last, weeks
        self.member_tag, self.zone = member_tag, zone

    @classmethod
    def from_registry(
        cls,
        registry: Registry,
        experiment: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        member: str | None = None,
        *,
        member_tag: str = DEFAULT_MEMBER_TAG,
        zone: tzinfo = UTC,
        refresh: bool = True,
    ) -> LearningMetrics:
        """The metrics of a registry's runs.

        Args:
            registry: The registry.
            experiment: Only runs of this experiment; ``None``: all.
            since, until, member, member_tag, zone: See the class.
            refresh: Bring the registry's index up to date first.

        Raises:
            InputError: There is no such experiment, or no run of such a member; near names are named.
        """
        since, until = _bounds(since, until)
        found = cls(
            registry.list(experiment=experiment, since=since, until=until, refresh=refresh),
            since=since,
            until=until,
            member_tag=member_tag,
            zone=zone,
        )
        return found if member is None else found.of_member(member)

    # What is counted

    @property
    def entries(self) -> list[RunEntry]:
        """The runs that count, oldest first."""
        return [j.entry for j in self.judged]

    @property
    def lessons(self) -> list[Judgement]:
        """Lessons and next steps of the runs that count, judged."""
        return [lesson for j in self.judged for lesson in j.lessons]

    # The numbers

    @cached_property
    def details(self) -> dict[str, Figure]:
        """Every number by name, with what it was computed from."""
        return figures_of(self.judged, self.weeks)

    @property
    def experiment_velocity(self) -> float | None:
        """Runs a week: runs that started in the window, whatever came of them, over its length in weeks."""
        return self.details["experiment_velocity"].value

    @property
    def failure_recovery_time_h(self) -> float | None:
        """Mean hours from the end of a failure to the end of the next success of the same line of work.

        The next success is the one that ended first of those that started when the failure had ended. Every failure
        counts from its own end, also where one success ends several. A partial outcome is no success. Failures without
        a success are left out; ``None`` where none recovered.
        """
        return self.details["failure_recovery_time_h"].value

    @property
    def lesson_application_rate(self) -> float | None:
        """Applied lessons over lessons that can be judged, 0 to 1.

        Lessons and next steps as they stand. One can be judged if it asks for a change of a configuration value that
        its own run does not have already (:func:`failguard.runs.lessons.changes_in`), and is applied if a later run of
        the line makes the change. Others are counted in ``details`` as left out.
        """
        return self.details["lesson_application_rate"].value

    @property
    def repeat_failure_rate(self) -> float | None:
        """Failures whose fingerprint occurred in a run of the window that had ended before, over all failures."""
        return self.details["repeat_failure_rate"].value

    @property
    def innovation_index(self) -> float | None:
        """Share of runs in a region of configurations that no earlier run of the window was in.

        See :func:`failguard.runs.regions.region_of` for the regions. Runs of which no configuration is known are left
        out.
        """
        return self.details["innovation_index"].value

    @property
    def time_to_detect_s(self) -> float | None:
        """Median seconds from the start of a failed run to the first sight of its root finding."""
        return self.details["time_to_detect_s"].value

    def calculate_team_learning_rate(self) -> dict[str, float | None]:
        """The source's five numbers under the source's names; the recovery time is in hours."""
        return {
            "experiment_velocity": self.experiment_velocity,
            "failure_recovery_time": self.failure_recovery_time_h,
            "lesson_application_rate": self.lesson_application_rate,
            "repeat_failure_rate": self.repeat_failure_rate,
            "innovation_index": self.innovation_index,
        }

    def learning_efficiency_score(self) -> float | None:
        """The source's score, 0 to 1: higher is better at learning from failures.

        ``0.3 lesson_application_rate + 0.3 (1 - repeat_failure_rate) + 0.2 innovation_index +
        0.2 min(experiment_velocity / 10, 1)``; ``None`` where one of them is.
        """
        parts = [self.details[name].value for name in WEIGHTS]
        if any(part is None for part in parts):
            return None
        applied, repeated, new, velocity = (float(part or 0.0) for part in parts)
        terms = (applied, 1.0 - repeated, new, min(velocity / SATURATION_PER_WEEK, 1.0))
        return sum(weight * term for weight, term in zip(WEIGHTS.values(), terms, strict=True))

    def explain(self, name: str | None = None) -> str:
        """What a number was computed from; without a name, all of them, one a line.

        Raises:
            InputError: There is no such number.
        """
        if name is None:
            return "\n".join(f"{figure.name}: {figure.basis}" for figure in self.details.values())
        if name not in self.details:
            raise InputError(f"There is no number {name!r}. Known: {', '.join(FIGURES)}.")
        return self.details[name].basis

    # Parts of the window. Each remembers what happened before in the whole window.

    def within(self, since: datetime, until: datetime) -> LearningMetrics:
        """The numbers of a part of the window.

        Unlike a window of its own, the part knows what came before and after it: a failure repeats one from before the
        part, and a success after it ends one. So counts of parts add up to those of the whole.
        """
        since, until = since.astimezone(), until.astimezone()
        judged = [j for j in self.judged if _is_within(j.entry, since, until)]
        return self._part(judged, since, until, (until - since) / WEEK)

    def of_member(self, member: str) -> LearningMetrics:
        """The numbers of one team member's runs.

        Raises:
            InputError: No run in the window is theirs. The message names those who have some.
        """
        parts = self.by_member()
        if member not in parts:
            known = ", ".join(repr(name) for name in parts if name) or "nobody"
            raise InputError(f"No run of the window is of {member!r}. Runs are of: {known}.")
        return parts[member]

    def by_member(self) -> dict[str, LearningMetrics]:
        """The numbers of each team member, ``""`` for runs of nobody known."""
        return self._grouped([member_of(e, self.member_tag) for e in self.entries])

    def by_experiment(self) -> dict[str, LearningMetrics]:
        """The numbers of each experiment."""
        return self._grouped([e.experiment for e in self.entries])

    def by_week(self) -> list[LearningMetrics]:
        """The numbers of each week from the first run to the last, weeks without runs in between included."""
        groups: dict[datetime, list[JudgedRun]] = defaultdict(list)
        for j in self.judged:
            groups[monday_of(start_of(j.entry), self.zone)].append(j)
        found: list[LearningMetrics] = []
        monday = min(groups, default=None)
        while monday is not None and monday <= max(groups):
            found.append(self._part(groups.get(monday, []), monday, monday + WEEK, 1.0))
            monday += WEEK
        return found

    def by_cause(self) -> list[CauseRow]:
        """A row for each likely cause of a failure, the most frequent first."""
        return cause_rows(self.judged)

    def repeated_failures(self) -> list[RepeatedFailure]:
        """Failures that occurred more than once, the most frequent first."""
        return repeated_failures(self.judged, self.known)

    def to_dict(self) -> dict[str, Any]:
        """Everything as values of strict JSON."""
        outcomes = Counter(str(e.outcome or ("running" if e.status == "running" else "unknown")) for e in self.entries)
        return {
            "since": None if self.first is None else self.first.isoformat(),
            "until": None if self.last is None else self.last.isoformat(),
            "weeks": self.weeks,
            "runs": len(self.judged),
            "outcomes": dict(sorted(outcomes.items())),
            **self.calculate_team_learning_rate(),
            "learning_efficiency_score": self.learning_efficiency_score(),
            "details": {name: figure.to_dict() for name, figure in self.details.items()},
            "by_cause": [row.to_dict() for row in self.by_cause()],
            "repeated_failures": [row.to_dict() for row in self.repeated_failures()],
        }

    def _grouped(self, names: Sequence[str]) -> dict[str, LearningMetrics]:
        groups: dict[str, list[JudgedRun]] = defaultdict(list)
        for name, j in zip(names, self.judged, strict=True):
            groups[name].append(j)
        return {name: self._part(groups[name], self.first, self.last, self.weeks) for name in sorted(groups)}

    def _part(
        self, judged: list[JudgedRun], first: datetime | None, last: datetime | None, weeks: float | None
    ) -> LearningMetrics:
        part = object.__new__(type(self))
        part._setup(judged, self.known, first, last, weeks, self.member_tag, self.zone)
        return part


def monday_of(time: datetime, zone: tzinfo) -> datetime:
    """Midnight of the Monday before a time, in a time zone."""
    day = time.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return day - timedelta(days=day.weekday())


def _bounds(since: datetime | None, until: datetime | None) -> tuple[datetime | None, datetime | None]:
    since = None if since is None else since.astimezone()
    until = None if until is None else until.astimezone()
    if since is not None and until is not None and until <= since:
        raise InputError(f"The window ends ({until.isoformat()}) before it begins ({since.isoformat()}).")
    return since, until


def _is_within(entry: RunEntry, since: datetime | None, until: datetime | None) -> bool:
    start = start_of(entry)
    return (since is None or start >= since) and (until is None or start < until)
