"""A finding: one symptom that was observed, with its evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

__all__ = ["Finding", "Severity", "Status", "Where", "row_words"]


class Severity(str, Enum):
    """How bad a finding is. Ordered: ``info < warning < error < fatal``."""

    INFO = "info"  # worth recording
    WARNING = "warning"  # look at it
    ERROR = "error"  # the run is failing
    FATAL = "fatal"  # nothing can be saved by going on

    @property
    def rank(self) -> int:
        """0 for info to 3 for fatal."""
        return _SEVERITY_ORDER.index(self.value)

    def __str__(self) -> str:
        return self.value


_SEVERITY_ORDER = ("info", "warning", "error", "fatal")


class Status(str, Enum):
    """How a run ended, or that it still runs."""

    RUNNING = "running"
    COMPLETED = "completed"  # ended as planned
    STOPPED = "stopped"  # failguard ended it, early stopping included
    RECOVERED = "recovered"  # ended as planned after a skip or a rollback
    FAILED = "failed"  # an exception, or a failure with nothing to save
    INTERRUPTED = "interrupted"  # a signal

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Where:
    """The place of a finding.

    Attributes:
        module: Qualified name of the module or layer, as the framework names it.
        tensor: ``"input"``, ``"target"``, ``"output"``, ``"loss"``, ``"gradient"``, ``"weight"`` or a metric's name.
        batch: Index of the training batch over the whole run, from 0.
        rows: The first rows concerned, from 0: of the batch where one is named, else of the data.
    """

    module: str | None = None
    tensor: str | None = None
    batch: int | None = None
    rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        parts = []
        if self.tensor:
            parts.append(self.tensor)
        if self.module:
            parts.append(f"of {self.module}" if parts else self.module)
        if self.batch is not None:
            parts.append(f"at batch {self.batch}")
        if self.rows:
            parts.append(f"({row_words(self.rows)})")
        return " ".join(parts)


def row_words(rows: Sequence[int]) -> str:
    """``"row 3"``, ``"rows 3, 9, 12"``."""
    return f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows))}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One symptom. Repeats of it within an episode are merged into it.

    Attributes:
        code: A code of the taxonomy, such as ``"loss.divergence"``.
        severity: How bad it is.
        step: Training batch at which it was seen, from 0 over the whole run; -1 before the first.
        epoch: Epoch at which it was seen, from 0.
        message: One sentence with the numbers in it.
        where: The place, as far as it is known.
        evidence: Numbers behind the message. Units are in the names.
    """

    code: str
    severity: Severity
    step: int
    epoch: int
    message: str
    where: Where = field(default_factory=Where)
    evidence: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The finding as plain values, for JSON."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "step": self.step,
            "epoch": self.epoch,
            "message": self.message,
            "where": {**asdict(self.where), "rows": list(self.where.rows)},
            "evidence": dict(self.evidence),
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Finding:
        """The inverse of :meth:`to_dict`. Unknown keys are ignored, so that newer records can be read."""
        where = d.get("where") or {}
        return cls(
            code=str(d["code"]),
            severity=Severity(d["severity"]),
            step=int(d.get("step", -1)),
            epoch=int(d.get("epoch", 0)),
            message=str(d.get("message", "")),
            where=Where(
                where.get("module"),
                where.get("tensor"),
                where.get("batch"),
                tuple(int(row) for row in where.get("rows") or ()),
            ),
            evidence=dict(d.get("evidence") or {}),
        )
