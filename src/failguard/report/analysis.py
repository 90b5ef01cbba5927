"""``failure_analysis.json``: the part of a report that programs read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from failguard.report.plain import plain
from failguard.report.run_report import RunReport

__all__ = ["SCHEMA_VERSION", "failure_analysis"]

SCHEMA_VERSION = 1


_CODE = re.compile(r"[a-z_]+")  # as in the schema


def failure_analysis(report: RunReport) -> dict[str, Any]:
    """The content of ``failure_analysis.json``.

    Its JSON Schema is ``failguard/report/failure_analysis.schema.json``. Floats that are not finite are written as
    ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.

    Args:
        report: The report of a run; a healthy one gives an analysis without findings.

    Returns:
        Values of strict JSON.
    """
    diagnosis, root = report.diagnosis, report.root
    where = {"module": None, "tensor": None, "batch": None, "rows": []} if root is None else root.to_dict()["where"]
    analysis = {
        "schema_version": SCHEMA_VERSION,
        "status": report.status,
        "error_type": report.exception.type_name if report.exception else None,
        "likely_cause": diagnosis.likely_cause,
        "config_issues": list(diagnosis.config_issues),
        # What was tried and helped comes first; sorting keeps the order otherwise.
        "recommendations": [c.remedy for c in sorted(diagnosis.causes, key=lambda c: not c.verified) if c.remedy],
        "findings": [f.to_dict() for f in report.findings],
        "causes": [c.to_dict() for c in diagnosis.causes],
        "root": None if root is None else root.to_dict(),
        "where": where,
        "compute": {
            "used_h": report.compute.used_h,
            "wasted_h": report.compute.wasted_h,
            "saved_h": report.compute.saved_h,
        },
        "environment": report.environment,
        "fingerprint": report.fingerprint,
        "similar_runs": report.similar_runs,
    }
    if report.learnings:
        analysis.update(_learnings(report.learnings))
    result = plain(analysis)
    assert isinstance(result, dict)
    return result


def _learnings(learnings: Mapping[str, Any]) -> dict[str, Any]:
    """What an experiment's manager said, under the usual names where it has their form; else as ``learnings`` too."""

    def fits(name: str, value: Any) -> bool:
        if name in ("config_issues", "recommendations"):
            return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        if name == "likely_cause" and value is not None:
            return isinstance(value, str) and _CODE.fullmatch(value) is not None
        return value is None or isinstance(value, str)

    usual = ("error_type", "likely_cause", "config_issues", "recommendations")
    found = {name: learnings[name] for name in usual if name in learnings and fits(name, learnings[name])}
    return found if len(found) == len(learnings) else {**found, "learnings": dict(learnings)}
