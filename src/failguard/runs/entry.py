"""One run of the registry, as plain values. Made from tags, params and metrics, whichever store they came from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from failguard.report.outcome import Outcome
from failguard.report.plain import from_plain, plain

__all__ = ["Note", "RunEntry", "entry_from_values", "note_from_tag", "value_of"]

NOTE_TAG = "failguard.note."  # followed by the note's id
OWN_PARAMS = frozenset({"hypothesis", "outcome", "error_type"})
_STATUS = {
    "RUNNING": "running",
    "SCHEDULED": "running",
    "FINISHED": "completed",
    "FAILED": "failed",
    "KILLED": "interrupted",
}
_UNWATCHED_OUTCOME = {"FAILED": Outcome.FAILURE, "KILLED": Outcome.PARTIAL}


@dataclass(frozen=True, slots=True)
class Note:
    """What a person added to a run.

    A run's notes are never changed in place: a new version names the one that it replaces, so that nothing is lost and
    two people can write at once.

    Attributes:
        id: Unique in the run, and in the order of writing.
        kind: ``"lesson"``, ``"next_step"`` or ``"classification"`` (productive, wasteful or system failure).
        text: What was learned, or is to be tried; ``""`` takes back the note that it replaces.
        author: Who wrote it.
        written_at: When, UTC.
        replaces: Id of the version before it.
    """

    id: str
    kind: str
    text: str
    author: str
    written_at: datetime
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class RunEntry:
    """One run.

    Attributes:
        run_id, experiment_id: As MLflow knows them.
        experiment: Name of the experiment.
        name: Name of the run.
        status: A word of :class:`~failguard.Status`; for a run that failguard did not watch, from MLflow's own status.
        outcome: ``None`` while it runs, and where it is not known: MLflow calls a run finished that an exception ended.
        started_at, ended_at: UTC; ``ended_at`` is ``None`` while it runs.
        watched: failguard watched it.
        finding, cause: Code of the root finding and of the likely cause.
        findings: Codes at warning or above, in the order they were seen.
        fingerprint: Identity of the failure; ``None`` for a healthy run.
        error_type: Class name of the exception that ended it.
        line: The line of work; the experiment where none was named.
        parent: Id of the run that this one improves on.
        framework, version, record_id: Of the watching, ``""`` where there was none.
        hypothesis, approach: As the user gave them.
        user: Who started it.
        config: Hyperparameters without nesting, names joined with dots. Numbers are numbers, where that is known.
        setup: What the adapter read from the model and the optimizer: ``model``, ``parameters``, ``optimizer``,
            ``learning_rate``, ``schedule``, ``clipping``, ``loss``, ``batch_size``.
        metrics: Last value of each metric of the user's, and of ``failguard/...`` without that prefix where the user
            logged none of the name.
        used_h, wasted_h, saved_h: Hours on the machine; ``None`` where not known.
        gpu_h, wasted_gpu_h, saved_gpu_h: The same times the number of GPUs.
        steps, planned_steps: Training batches.
        detected_after_s: Seconds from the start to the first sight of the root finding.
        notes: All versions of what people added, oldest first.
        tags: All other tags.
        heard_at: When its newest metric was written, UTC; ``None`` where it has none.
    """

    run_id: str
    experiment_id: str
    experiment: str
    name: str
    status: str
    started_at: datetime
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    watched: bool = False
    finding: str | None = None
    cause: str | None = None
    findings: tuple[str, ...] = ()
    fingerprint: str | None = None
    error_type: str | None = None
    line: str = ""
    parent: str | None = None
    framework: str = ""
    version: str = ""
    record_id: str = ""
    hypothesis: str = ""
    approach: str = ""
    user: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    setup: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    used_h: float | None = None
    wasted_h: float | None = None
    saved_h: float | None = None
    gpu_h: float | None = None
    wasted_gpu_h: float | None = None
    saved_gpu_h: float | None = None
    steps: int | None = None
    planned_steps: int | None = None
    detected_after_s: float | None = None
    notes: tuple[Note, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    heard_at: datetime | None = None

    @property
    def failed(self) -> bool:
        """Whether it counts as a failure."""
        return self.outcome is Outcome.FAILURE

    @property
    def lessons(self) -> tuple[str, ...]:
        """The lessons as they stand."""
        return self._current("lesson")

    @property
    def next_steps(self) -> tuple[str, ...]:
        """The next steps as they stand."""
        return self._current("next_step")

    @property
    def duration_h(self) -> float | None:
        """Hours from start to end."""
        return None if self.ended_at is None else (self.ended_at - self.started_at).total_seconds() / 3600.0

    def to_dict(self) -> dict[str, Any]:
        """The entry as values of strict JSON; times in ISO 8601."""
        values = {name: _iso(value) for name, value in asdict(self).items() if name != "notes"}
        notes = [{name: _iso(value) for name, value in asdict(note).items()} for note in self.notes]
        more = {"lessons": self.lessons, "next_steps": self.next_steps}
        return dict(plain({**values, **more, "notes": notes}))

    def _current(self, kind: str) -> tuple[str, ...]:
        replaced = {note.replaces for note in self.notes if note.replaces}
        return tuple(n.text for n in self.notes if n.kind == kind and n.id not in replaced and n.text)


def entry_from_values(
    *,
    run_id: str,
    experiment_id: str,
    experiment: str,
    name: str,
    mlflow_status: str,
    started_ms: int | None,
    ended_ms: int | None,
    tags: Mapping[str, str],
    params: Mapping[str, str],
    metrics: Mapping[str, float],
    heard_ms: int | None = None,
) -> RunEntry:
    """An entry from what a tracking store holds of a run.

    Tags of other people's that look like failguard's are taken for what they say as far as they can be read, and left
    out otherwise.

    Args:
        run_id, experiment_id, experiment, name: Who the run is.
        mlflow_status: ``"RUNNING"``, ``"FINISHED"``, ``"FAILED"``, ``"KILLED"`` or ``"SCHEDULED"``.
        started_ms, ended_ms: Milliseconds since 1970.
        tags, params: Values as text.
        metrics: Last values.
        heard_ms: When the newest of them was written, milliseconds since 1970.
    """
    own = {key.removeprefix("failguard."): value for key, value in tags.items() if key.startswith("failguard.")}
    config = {key: value_of(text) for key, text in params.items() if key not in OWN_PARAMS}
    config.update(_object(own.get("config")))
    numbers = {key.removeprefix("failguard/run/"): v for key, v in metrics.items() if key.startswith("failguard/run/")}
    watched = "status" in own
    notes = [note_from_tag(key, value) for key, value in tags.items() if key.startswith(NOTE_TAG)]
    return RunEntry(
        run_id=run_id,
        experiment_id=experiment_id,
        experiment=experiment,
        name=name,
        status=_status(own.get("status"), mlflow_status),
        started_at=_time(started_ms) or datetime.fromtimestamp(0, UTC),
        ended_at=_time(ended_ms),
        outcome=_outcome(own.get("outcome"), params.get("outcome"), mlflow_status),
        watched=watched,
        finding=own.get("finding") or None,
        cause=own.get("cause") or None,
        findings=tuple(own.get("findings", own.get("finding", "")).split()),
        fingerprint=own.get("fingerprint") or None,
        error_type=own.get("error_type") or params.get("error_type") or None,
        line=own.get("line") or experiment,
        parent=own.get("parent") or None,
        framework=own.get("framework", ""),
        version=own.get("version", ""),
        record_id=own.get("record", ""),
        hypothesis=params.get("hypothesis", ""),
        approach=own.get("approach", ""),
        user=tags.get("mlflow.user", ""),
        config=config,
        setup=_object(own.get("setup")),
        metrics=_metrics(metrics),
        used_h=_number(numbers.get("used_h")),
        wasted_h=_number(numbers.get("wasted_h")),
        saved_h=_number(numbers.get("saved_h")),
        gpu_h=_number(numbers.get("gpu_h")),
        wasted_gpu_h=_number(numbers.get("wasted_gpu_h")),
        saved_gpu_h=_number(numbers.get("saved_gpu_h")),
        steps=_whole(numbers.get("steps")),
        planned_steps=_whole(numbers.get("planned_steps")),
        detected_after_s=_number(numbers.get("detected_after_s")),
        notes=tuple(sorted((n for n in notes if n is not None), key=lambda n: (n.written_at, n.id))),
        tags={k: v for k, v in tags.items() if not k.startswith("failguard.") or k.startswith("failguard.tag.")},
        heard_at=_time(heard_ms),
    )


def note_from_tag(key: str, text: str) -> Note | None:
    """A note from its tag; ``None`` where it is none of ours."""
    values = _object(text)
    try:
        return Note(
            id=key.removeprefix(NOTE_TAG),
            kind=str(values["kind"]),
            text=str(values["text"]),
            author=str(values.get("author", "")),
            written_at=datetime.fromisoformat(str(values["written_at"])).astimezone(UTC),
            replaces=str(values["replaces"]) if values.get("replaces") else None,
        )
    except (KeyError, ValueError, OverflowError):
        return None


def _status(word: str | None, mlflow_status: str) -> str:
    ended = _STATUS.get(mlflow_status, "running")
    if not word:
        return ended
    # A killed process leaves "running" behind; what MLflow was told later is newer.
    return ended if word == "running" else word


def _outcome(word: str | None, param: str | None, mlflow_status: str) -> Outcome | None:
    """From failguard's tag, else the param of an ExperimentManager, else from what MLflow knows for certain."""
    for text in (word, {"failed": "failure"}.get(param or "", param)):
        try:
            return Outcome(text)
        except ValueError:
            continue
    return _UNWATCHED_OUTCOME.get(mlflow_status)


def _metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    found = {k: v for k, v in metrics.items() if not k.startswith(("failguard/", "system/"))}
    for key, value in metrics.items():
        if key.startswith("failguard/") and not key.startswith("failguard/run/"):
            found.setdefault(key.removeprefix("failguard/"), value)
    return found


def value_of(text: str) -> Any:
    """A param as what it was before it became text, where that is certain."""
    if text in ("True", "False"):
        return text == "True"
    if text in ("None", ""):
        return None
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _object(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return dict(from_plain(value)) if isinstance(value, dict) else {}


def _time(ms: int | None) -> datetime | None:
    try:
        return None if not ms else datetime.fromtimestamp(ms / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _whole(value: float | None) -> int | None:
    return None if value is None or not math.isfinite(value) else int(value)


def _iso(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
