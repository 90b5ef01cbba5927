"""The report as strict JSON and back. Nothing here reads anything but JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from failguard.core.containment import PartError
from failguard.core.diagnosis import Cause, Diagnosis
from failguard.core.facts import (
    Facts,
    InputFacts,
    LabelOrder,
    ModelFacts,
    OptimizerFacts,
    OutputFacts,
    SetupFacts,
    TargetFacts,
)
from failguard.core.finding import Finding, Status
from failguard.core.observation import ExceptionFacts
from failguard.core.redaction import short
from failguard.core.run_info import RunInfo
from failguard.errors import InputError
from failguard.report.plain import from_plain, plain
from failguard.report.run_report import ActionTaken, Compute, Overhead, Progress, RunReport

__all__ = ["SCHEMA_VERSION", "dump", "from_dict", "load", "to_dict"]

SCHEMA_VERSION = 1

T = TypeVar("T")


def to_dict(report: RunReport) -> dict[str, Any]:
    """See :meth:`RunReport.to_dict`."""
    d = {f.name: plain(getattr(report, f.name)) for f in fields(report)}
    return {"schema_version": SCHEMA_VERSION, **d}


def from_dict(d: Mapping[str, Any]) -> RunReport:
    """See :meth:`RunReport.from_dict`."""
    if not isinstance(d, Mapping):
        raise InputError(f"A report is a JSON object, not {type(d).__name__}.")
    version = d.get("schema_version")
    newer = isinstance(version, int) and version > SCHEMA_VERSION
    report = RunReport(run=RunInfo("", ""))
    left_out = []
    for name, read in {"run": _run_info, **_READERS}.items():
        if d.get(name) is None:
            continue
        try:
            setattr(report, name, _part(d, name, read, None))
        except InputError:
            if not newer:
                raise
            left_out.append(name)
    if newer:
        lost = f" What this version cannot read was left out: {', '.join(left_out)}." if left_out else ""
        report.notes.append(f"The record was written by a newer failguard (schema {version}).{lost}")
    return report


def dump(report: RunReport, path: str | os.PathLike[str]) -> None:
    """See :meth:`RunReport.dump`."""
    text = json.dumps(report.to_dict(), allow_nan=False, ensure_ascii=False, indent=1)
    # A lone surrogate in user text cannot be encoded; it must not cost the record.
    Path(path).write_bytes(text.encode("utf-8", "replace"))


def load(path: str | os.PathLike[str]) -> RunReport:
    """See :meth:`RunReport.load`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{os.fspath(path)!r} cannot be read: {error}.") from error
    try:
        d = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise InputError(f"{os.fspath(path)!r} is no record of a run: {error}.") from error
    return from_dict(d)


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _part(d: Mapping[str, Any], name: str, read: Callable[[Any], T], default: Any) -> T:
    """One part of the record, read or refused by name."""
    value = d.get(name)
    if value is None:
        return default  # type: ignore[no-any-return]
    try:
        return read(value)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            f"The part {name!r} of this record cannot be read: {type(error).__name__}: {error}."
        ) from error


def _make(cls: type[T], d: Mapping[str, Any]) -> T:
    """A dataclass from its known keys; a key that is absent keeps its default."""
    known = {f.name: str(f.type) for f in fields(cls)}  # type: ignore[arg-type]
    values = {k: from_plain(v) for k, v in d.items() if k in known}
    for name, value in values.items():
        kind = known[name]
        may_be_absent = value is None and kind.endswith("| None")
        if kind.startswith(("int", "float")) and not may_be_absent and not isinstance(value, int | float):
            raise TypeError(f"{name} is {short(value)} and no number")
    return cls(**values)


def _list_of(read: Callable[[Any], T]) -> Callable[[Any], list[T]]:
    return lambda values: [read(v) for v in values]


def _dataclass(cls: type[T]) -> Callable[[Any], T]:
    return lambda d: _make(cls, d)


def _run_info(d: Mapping[str, Any]) -> RunInfo:
    return _make(RunInfo, {"record_id": "", "started_at": "", **d})


def _finding(d: Mapping[str, Any]) -> Finding:
    return Finding.from_dict({**d, "evidence": from_plain(d.get("evidence") or {})})


def _diagnosis(d: Mapping[str, Any]) -> Diagnosis:
    causes = [
        Cause.from_dict({**c, "config_values": from_plain(c.get("config_values") or {})}) for c in d.get("causes") or ()
    ]
    return Diagnosis(
        summary=str(d.get("summary", "")),
        causes=tuple(causes),
        config_issues=tuple(str(i) for i in d.get("config_issues") or ()),
    )


def _facts(d: Mapping[str, Any]) -> Facts:
    parts = dict(d)
    for name, kind in _FACTS.items():
        if parts.get(name) is not None:
            parts[name] = _tuples(_make(kind, parts[name]))
        else:
            parts.pop(name, None)
    names = ("class_counts", "validation_class_counts")
    counts = {name: {int(k): int(v) for k, v in (parts.pop(name, None) or {}).items()} for name in names}
    facts = _make(Facts, parts)
    facts.class_counts, facts.validation_class_counts = (counts[name] for name in names)
    return facts


def _tuples(facts: Any) -> Any:
    """JSON has lists only; facts hold tuples."""
    for field in fields(facts):
        value = getattr(facts, field.name)
        if isinstance(value, list):
            setattr(facts, field.name, tuple(value))
    return facts


_FACTS: dict[str, type[Any]] = {
    "optimizer": OptimizerFacts,
    "model": ModelFacts,
    "output": OutputFacts,
    "target": TargetFacts,
    "inputs": InputFacts,
    "setup": SetupFacts,
    "label_order": LabelOrder,
}


_READERS: dict[str, Callable[[Any], Any]] = {
    "status": Status,
    "findings": _list_of(_finding),
    "root": _finding,
    "seen_after_s": lambda v: {str(k): float(x) for k, x in v.items()},
    "diagnosis": _diagnosis,
    "actions": _list_of(_dataclass(ActionTaken)),
    "progress": _dataclass(Progress),
    "compute": _dataclass(Compute),
    "overhead": _dataclass(Overhead),
    "resources": lambda v: dict(from_plain(v)),
    "facts": _facts,
    "exception": _dataclass(ExceptionFacts),
    "environment": lambda v: dict(from_plain(v)),
    "fingerprint": str,
    "similar_runs": _list_of(lambda v: dict(from_plain(v))),
    "best": lambda v: dict(from_plain(v)),
    "part_errors": _list_of(_dataclass(PartError)),
    "notes": _list_of(str),
    "history": _list_of(lambda v: dict(from_plain(v))),
    "locations": lambda v: {str(k): str(x) for k, x in v.items()},
    "metrics": lambda v: {str(k): [(int(step), float(value)) for step, value in x] for k, x in v.items()},
    "learnings": lambda v: dict(from_plain(v)),
}
