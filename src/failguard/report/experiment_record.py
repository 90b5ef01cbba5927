"""The record of an experiment as people write and read it: what was believed, tried, found, learned."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from failguard.core.finding import Severity
from failguard.errors import InputError
from failguard.report.outcome import outcome_of
from failguard.report.plain import from_plain, plain
from failguard.report.run_report import RunReport
from failguard.report.summary import cause_title, duration, one_line

if TYPE_CHECKING:
    from failguard.runs.entry import RunEntry

__all__ = ["ExperimentRecord"]

SCHEMA_VERSION = 1
DAY_S = 86_400.0
_SETUP = ("model", "parameters", "optimizer", "learning_rate", "schedule", "clipping", "loss", "batch_size")


@dataclass(slots=True)
class ExperimentRecord:
    """One experiment, as in the source design. Every field may be set or changed at any time.

    Attributes:
        hypothesis: What was believed.
        approach: How it was tested. Made from a run: as given, else model and optimizer, else the configuration.
        metrics: Results, by name.
        duration: Time invested, in days, or a ``timedelta``.
        outcome: ``"Success"``, ``"Failure"`` or ``"Partial"``; ``""`` while it is not known.
        lessons: Key takeaways.
        next_steps: What to try next.
        date: When it began; ``None``: the day on which it is written down.
        name: Of the run; the title where there is no hypothesis.
        run_id: The run that it is the record of.
    """

    hypothesis: str = ""
    approach: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    duration: float | timedelta = 0
    outcome: str = ""
    lessons: list[str] = field(default_factory=list)
    next_steps: list[str] = field(default_factory=list)
    date: datetime | None = None
    name: str = ""
    run_id: str = ""

    def to_markdown(self) -> str:
        """The record under the headings of the source design."""
        date = self.date if self.date is not None else datetime.now(UTC)
        return f"""
## Experiment: {one_line(self.hypothesis or self.name)}
**Date**: {date.isoformat(sep=" ", timespec="seconds")}
**Duration**: {_shown(_days(self.duration))}
**Outcome**: {self.outcome}

### Approach
{self.approach}

### Results
{json.dumps(plain(self.metrics), indent=2, ensure_ascii=False)}

### Lessons Learned
{_listed(self.lessons)}

### Next Steps
{_listed(self.next_steps)}
"""

    def to_json(self) -> str:
        """The record as strict JSON; the duration as ``duration_days``."""
        values = {
            "schema_version": SCHEMA_VERSION,
            "hypothesis": self.hypothesis,
            "approach": self.approach,
            "metrics": self.metrics,
            "duration_days": _days(self.duration),
            "outcome": self.outcome,
            "lessons": list(self.lessons),
            "next_steps": list(self.next_steps),
            "date": None if self.date is None else self.date.isoformat(),
            "name": self.name,
            "run_id": self.run_id,
        }
        return json.dumps(plain(values), indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ExperimentRecord:
        """The inverse of :meth:`to_json`. Missing entries get their defaults, unknown ones are ignored.

        Raises:
            InputError: It is no record; the message says why.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"This is no JSON: {error}.") from error
        if not isinstance(values, Mapping):
            raise InputError(f"The record of an experiment is a JSON object, not {type(values).__name__}.")
        try:
            date = values.get("date")
            metrics = from_plain(values.get("metrics") or {})
            if not isinstance(metrics, Mapping):
                raise TypeError("metrics is no object")
            return cls(
                hypothesis=_text(values, "hypothesis"),
                approach=_text(values, "approach"),
                metrics=metrics,
                duration=float(values.get("duration_days") or 0),
                outcome=_text(values, "outcome"),
                lessons=_texts(values, "lessons"),
                next_steps=_texts(values, "next_steps"),
                date=None if date is None else datetime.fromisoformat(date),
                name=_text(values, "name"),
                run_id=_text(values, "run_id"),
            )
        except (TypeError, ValueError) as error:
            raise InputError(f"This record of an experiment cannot be read: {error}.") from error

    @classmethod
    def from_report(cls, report: RunReport) -> ExperimentRecord:
        """What the report of a run says. Lessons are the diagnosis, next steps the remedies; of a healthy run neither.

        Args:
            report: The report of a watched run or of an experiment.
        """
        facts, run, outcome = report.facts, report.run, outcome_of(report)
        setup = {
            "model": facts.model.name,
            "parameters": facts.model.parameters,
            "optimizer": facts.optimizer.name,
            "learning_rate": facts.optimizer.learning_rate,
            "schedule": facts.optimizer.schedule,
            "clipping": facts.optimizer.clipping,
            "loss": facts.loss_name,
            "batch_size": facts.batch_size,
        }
        is_noted = any(f.severity is not Severity.INFO for f in report.findings)
        diagnosis = report.diagnosis
        return cls(
            hypothesis=run.hypothesis or "",
            approach=run.approach or _setup_text(setup) or _named(run.config.items()),
            metrics=_last_values(report),
            duration=report.progress.duration_s / DAY_S,
            outcome="" if outcome is None else outcome.value.capitalize(),
            lessons=[one_line(diagnosis.summary), *diagnosis.config_issues] if is_noted else [],
            next_steps=[cause.remedy for cause in diagnosis.causes if cause.remedy] if is_noted else [],
            date=_date(run.started_at),
            name=run.run_name or run.record_id,
            run_id=run.mlflow_run_id or run.record_id,
        )

    @classmethod
    def from_entry(cls, entry: RunEntry) -> ExperimentRecord:
        """What the registry knows of a run, with the lessons and next steps that people have added.

        Args:
            entry: A run of the registry.
        """
        lessons = list(entry.lessons)
        if entry.failed and (entry.finding or entry.error_type):
            why = f", likely cause: {cause_title(entry.cause).lower()}" if entry.cause else ""
            lessons.append(f"It ended with {entry.finding or entry.error_type}{why}.")
        return cls(
            hypothesis=entry.hypothesis,
            approach=entry.approach or _setup_text(entry.setup) or _named(entry.config.items()),
            metrics=dict(entry.metrics),
            duration=(entry.duration_h or entry.used_h or 0.0) / 24.0,
            outcome="" if entry.outcome is None else entry.outcome.value.capitalize(),
            lessons=lessons,
            next_steps=list(entry.next_steps),
            date=entry.started_at,
            name=entry.name,
            run_id=entry.run_id,
        )


def _days(value: float | timedelta) -> float:
    return value.total_seconds() / DAY_S if isinstance(value, timedelta) else value


def _shown(days: float) -> str:
    """``"3 days"``; a part of a day also as people say it."""
    text = f"{days:.4g} days"
    return f"{text} ({duration(days * DAY_S)})" if 0 < days < 1 else text


def _listed(items: list[str]) -> str:
    return "\n".join("- " + "\n  ".join(str(item).splitlines()) for item in items)


def _setup_text(setup: Mapping[str, Any]) -> str:
    return _named((name, setup[name]) for name in _SETUP if setup.get(name) not in (None, ""))


def _named(values: Iterable[tuple[str, Any]]) -> str:
    """``"optimizer SGD, learning rate 0.1"``, at most 20 of them."""
    texts = [
        f"{name.replace('_', ' ')} {value:,}" if type(value) is int else f"{name.replace('_', ' ')} {value}"
        for name, value in islice(values, 20)
    ]
    return one_line(", ".join(texts))


def _last_values(report: RunReport) -> dict[str, float]:
    """The last value of each metric of an experiment, and of each curve over epochs."""
    found = {name: points[-1][1] for name, points in report.metrics.items() if points}
    for row in report.history:
        if row.get("per") == "epoch" and row.get("mean") is not None and row["name"] not in report.metrics:
            found[str(row["name"])] = float(row["mean"])  # rows are in the order of time
    return found


def _date(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name) or ""
    if not isinstance(value, str):
        raise TypeError(f"{name} is no text")
    return value


def _texts(values: Mapping[str, Any], name: str) -> list[str]:
    value = values.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{name} is no list of text")
    return list(value)
