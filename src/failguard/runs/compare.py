"""Two runs side by side: configuration, setup, environment, curves, outcome. And which good run is nearest to a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from failguard.report.outcome import Outcome
from failguard.report.plain import plain
from failguard.report.text import duration
from failguard.runs.curves import CurvePair
from failguard.runs.entry import RunEntry

__all__ = ["ABSENT", "Change", "Comparison", "changes", "compare", "configuration", "distance", "nearest_good"]

ABSENT = "-"  # how a value that a run has not got is shown
ENVIRONMENT_TAGS = ("mlflow.source.git.commit", "mlflow.source.name", "mlflow.user", "mlflow.docker.image.name")


@dataclass(frozen=True, slots=True)
class Change:
    """A value that two runs do not share.

    Attributes:
        name: Its name, nesting joined with dots.
        before, after: The value of the first and of the second run; ``None`` where it has none.
        in_before, in_after: Whether they have one.
    """

    name: str
    before: Any
    after: Any
    in_before: bool = True
    in_after: bool = True

    def __str__(self) -> str:
        return f"{self.name} {self.texts[0]} → {self.texts[1]}"

    @property
    def texts(self) -> tuple[str, str]:
        """Both values as people read them."""
        return _text(self.before) if self.in_before else ABSENT, _text(self.after) if self.in_after else ABSENT


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        first, second: The runs.
        outcome: What came of each: label, and the text of each, also where they are alike.
        config, setup, environment: What they do not share.
        curves: Metrics that both have.
        notes: What could not be compared, and why.
    """

    first: RunEntry
    second: RunEntry
    outcome: tuple[tuple[str, str, str], ...]
    config: tuple[Change, ...]
    setup: tuple[Change, ...]
    environment: tuple[Change, ...]
    curves: tuple[CurvePair, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As values of strict JSON."""
        return {
            "runs": [self.first.to_dict(), self.second.to_dict()],
            **{
                name: [{"name": c.name, "values": [plain(c.before), plain(c.after)]} for c in getattr(self, name)]
                for name in ("config", "setup", "environment")
            },
            "curves": [curve.to_dict() for curve in self.curves],
            "notes": list(self.notes),
        }


def compare(
    first: RunEntry,
    second: RunEntry,
    environments: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
    curves: Sequence[CurvePair] = (),
    notes: Sequence[str] = (),
) -> Comparison:
    """Compare two runs.

    Args:
        first, second: The runs.
        environments: Of their reports, ``{}`` where not known.
        curves: Their metrics over the steps.
        notes: What could not be read.
    """
    return Comparison(
        first,
        second,
        tuple(_outcome(first, second)),
        tuple(changes(first.config, second.config)),
        tuple(changes(first.setup, second.setup)),
        tuple(changes(_environment(first, environments[0]), _environment(second, environments[1]))),
        tuple(curves),
        tuple(notes),
    )


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """What differs between two flat configurations, in the order of the first.

    Args:
        before, after: The configurations.
    """
    found = []
    for name in dict.fromkeys([*before, *after]):
        if name in before and name in after and _same(before[name], after[name]):
            continue
        found.append(Change(name, before.get(name), after.get(name), name in before, name in after))
    return found


def configuration(entry: RunEntry) -> dict[str, Any]:
    """What can be compared of a run's making: its configuration, and what the adapter read where that says nothing.

    Args:
        entry: The run.
    """
    return {**entry.setup, **entry.config}


def distance(first: RunEntry, second: RunEntry) -> float:
    """How far two configurations are from each other.

    Each value that differs counts 1; numbers of one sign count what lies between them in powers of ten, at most 1. A
    seed and what differs only because one run was planned longer count as any other value.

    Args:
        first, second: The runs.
    """
    return sum(_weight(c) for c in changes(configuration(first), configuration(second)))


def nearest_good(entry: RunEntry, others: Iterable[RunEntry]) -> RunEntry | None:
    """The successful run whose configuration is nearest; of several the nearest in time.

    Those of the same line of work come before the rest of the experiment, and these before other experiments.

    Args:
        entry: The run.
        others: Candidates.

    Returns:
        ``None`` where there is no successful run.
    """
    good = [o for o in others if o.outcome is Outcome.SUCCESS and o.run_id != entry.run_id]

    def order(other: RunEntry) -> tuple[bool, float, bool, float]:
        apart_s = abs((other.started_at - entry.started_at).total_seconds())
        return other.experiment_id != entry.experiment_id, distance(entry, other), other.line != entry.line, apart_s

    return min(good, key=order, default=None)


def _outcome(first: RunEntry, second: RunEntry) -> Iterable[tuple[str, str, str]]:
    def of(entry: RunEntry) -> dict[str, str]:
        hours = {"duration": entry.duration_h, "hours wasted": entry.wasted_h, "hours saved": entry.saved_h}
        return {
            "status": entry.status,
            "outcome": "not known" if entry.outcome is None else entry.outcome.value,
            "finding": entry.finding or "",
            "also seen": ", ".join(code for code in entry.findings if code != entry.finding),
            "cause": entry.cause or "",
            "error": entry.error_type or "",
            "steps": "" if entry.steps is None else f"{entry.steps:,}",
            **{name: "" if value is None else duration(3600 * value) for name, value in hours.items()},
        }

    one, other = of(first), of(second)
    return ((name, one[name] or ABSENT, other[name] or ABSENT) for name in one if one[name] or other[name])


def _environment(entry: RunEntry, recorded: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"framework": entry.framework, "failguard": entry.version}
    found.update({name: entry.tags.get(name, "") for name in ENVIRONMENT_TAGS})
    for name, value in recorded.items():
        if isinstance(value, Mapping):
            found.update({f"{name}.{key}": inner for key, inner in value.items()})
        else:
            found[name] = value
    return {name: value for name, value in found.items() if value not in ("", None)}


def _weight(change: Change) -> float:
    before, after = change.before, change.after
    if _is_number(before) and _is_number(after) and before * after > 0:
        return min(1.0, abs(math.log10(abs(after)) - math.log10(abs(before))))
    return 1.0


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, float) and isinstance(after, float) and math.isnan(before) and math.isnan(after):
        return True
    return bool(before == after) and isinstance(before, bool) == isinstance(after, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
