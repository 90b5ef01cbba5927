"""A report put together from a record's smaller files, where the whole report is not at hand or damaged."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from failguard.errors import InputError

__all__ = ["ANALYSIS", "record_from_artifacts"]

ANALYSIS = "failure_analysis.json"


def record_from_artifacts(read: Callable[[str], str], note: str) -> dict[str, Any]:
    """The parts of a report that the artifacts hold, as ``RunReport.from_dict`` takes them.

    A file that is missing or damaged costs only what is in it, and each line of ``history.jsonl`` stands for itself.

    Args:
        read: Gives the text of an artifact by name, ``""`` where there is none.
        note: A remark on where the report comes from.

    Raises:
        InputError: There is no ``failure_analysis.json``, or it is damaged.
    """
    analysis = _object(read(ANALYSIS))
    if not analysis:
        raise InputError(f"There is no {ANALYSIS}, or it is damaged.")
    resources = _object(read("failguard/resources.json"))
    lines = read("failguard/history.jsonl").splitlines()
    history = [row for line in lines if (row := _object(line))]
    findings = [f for f in analysis.get("findings") or () if isinstance(f, dict)]
    root = analysis.get("root")
    ends = [_end(row) for row in history if row.get("per") == "step" and row.get("name") == "loss"]
    ends += [int(f.get("step", -1)) + 1 for f in findings]
    epochs = [_end(row) for row in history if row.get("per") == "epoch"]
    whole = ("status", "findings", "root", "compute", "environment", "fingerprint", "similar_runs")
    record = {
        **{name: analysis.get(name) for name in whole},
        "diagnosis": {
            "summary": root.get("message", "") if isinstance(root, dict) else "Nothing went wrong.",
            "causes": analysis.get("causes"),
            "config_issues": analysis.get("config_issues"),
        },
        "resources": resources,
        "history": history,
        "progress": {"steps": max(ends, default=0), "epochs": max(epochs, default=0)},
        "notes": [note],
    }
    if analysis.get("error_type"):
        raised = [f for f in findings if f.get("code") in ("run.exception", "run.interrupted")]
        record["exception"] = {
            "type_name": analysis["error_type"],
            "message": raised[0].get("message", "") if raised else "",
            "trace": read("error_trace.txt"),
            "interrupt": analysis.get("status") == "interrupted",
        }
    return record


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _end(row: dict[str, Any]) -> int:
    try:
        return int(row["start"]) + int(row["count"])
    except (KeyError, TypeError, ValueError):
        return 0
