"""What the checks of a dataset found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from failguard.core.finding import Finding, Severity, Where
from failguard.errors import DataQualityError

__all__ = ["DataFinding", "DataReport", "finding", "sorted_findings"]


@dataclass(frozen=True, slots=True)
class DataFinding(Finding):
    """One finding about a dataset.

    Attributes:
        columns: The columns concerned.
        rows: Up to five example rows, counted from 0.
        count: Cells, rows or classes concerned.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    count: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain values, for JSON."""
        more = {"columns": list(self.columns), "rows": list(self.rows), "count": self.count}
        return {**Finding.to_dict(self), **more}


def finding(
    code: str,
    severity: Severity,
    message: str,
    *,
    columns: Sequence[str] = (),
    rows: Sequence[int] = (),
    count: int = 0,
    evidence: Mapping[str, float] | None = None,
) -> DataFinding:
    """A finding about a dataset; example rows are added to its message."""
    if rows:
        more = ", ..." if count > len(rows) else ""
        message = f"{message[:-1]} (row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows))}{more})."
    where = Where(tensor=columns[0] if len(columns) == 1 else None)
    return DataFinding(
        code, severity, -1, 0, message, where, dict(evidence or {}), tuple(columns), tuple(map(int, rows)), int(count)
    )


@dataclass(frozen=True, slots=True)
class DataReport:
    """The result of :func:`failguard.validate_dataset` or :func:`failguard.check_split`.

    Attributes:
        source: What was looked at.
        rows: Rows by part: ``{"rows": ...}`` or ``{"training": ..., "validation": ...}``.
        columns: How many there are.
        findings: Worst first.
        checks: The checks that ran.
        notes: What was sampled, and which checks could not run and why.
    """

    source: str
    rows: Mapping[str, int]
    columns: int
    findings: Sequence[Finding] = ()
    checks: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def ok(self) -> bool:
        """Whether no check failed: there is no finding at ``error`` or above."""
        return not self.failed

    @property
    def failed(self) -> list[Finding]:
        """The findings at ``error`` or above."""
        return [f for f in self.findings if f.severity.rank >= Severity.ERROR.rank]

    def raise_if_failed(self) -> None:
        """Raise where a check failed.

        Raises:
            DataQualityError: Names every failed check with counts, columns and example rows.
        """
        failed = self.failed
        if failed:
            codes = dict.fromkeys(f.code for f in failed)
            lines = "".join(f"\n- {f.code}: {f.message}" for f in failed)
            raise DataQualityError(f"Failed checks: {', '.join(codes)}{lines}", self)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {
            "source": self.source,
            "ok": self.ok,
            "rows": dict(self.rows),
            "columns": self.columns,
            "checks": list(self.checks),
            "findings": [f.to_dict() for f in self.findings],
            "notes": list(self.notes),
        }

    def to_markdown(self) -> str:
        """The report as Markdown."""
        from failguard.data.pages import report_markdown

        return report_markdown(self)

    def to_html(self) -> str:
        """The report as one self-contained page."""
        from failguard.data.pages import report_html

        return report_html(self)

    def _repr_html_(self) -> str:
        from failguard.data.pages import report_fragment

        return report_fragment(self)


def sorted_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Worst first, else as they came."""
    return sorted(findings, key=lambda f: -f.severity.rank)
