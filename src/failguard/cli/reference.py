"""What there is to say about a code: for ``failguard explain`` and the reference pages alike."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from failguard.cli import dataset_checks
from failguard.core.codes import CAUSES, FINDINGS
from failguard.core.history import History
from failguard.detectors.base import replay
from failguard.detectors.presets import detectors_for
from failguard.diagnosis.case import Case
from failguard.diagnosis.causes import KNOWLEDGE, CauseRow
from failguard.runs import recall
from failguard.runs.memory_settings import FailureMemory
from failguard.settings import Settings

__all__ = ["Page", "page", "pages"]

MAX_CAUSES = 6
EXAMPLE_EVERY_STEPS = 4


@dataclass(frozen=True, slots=True)
class Page:
    """One code.

    Attributes:
        code: The code.
        kind: ``"finding"`` or ``"cause"``.
        meaning: One sentence.
        severity: The usual one of a finding, ``""`` for a cause.
        document: How it is measured, with formula and sources: the docstring of its detector, its first line left out;
            for a check of a dataset, where it is looked for. ``""`` where this version does not look for it.
        thresholds: Name to default.
        example: A run that has it and what is said about it, ``("", "")`` where there is none.
        related: For a finding the causes that are considered, the likeliest before any evidence first; for a cause the
            findings it can explain.
        evidence: For a cause, what is looked at.
        remedies: Cause to what to try, before anything is known of the run.
        config: For a cause, the configuration values it involves.
    """

    code: str
    kind: str
    meaning: str
    severity: str = ""
    document: str = ""
    thresholds: tuple[tuple[str, str], ...] = ()
    example: tuple[str, str] = ("", "")
    related: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    remedies: tuple[tuple[str, str], ...] = ()
    config: tuple[str, ...] = ()


def pages() -> Iterator[Page]:
    """Every finding, then every cause."""
    for code in [*FINDINGS, *CAUSES]:
        yield page(code)


def page(code: str) -> Page:
    """Put together what is known of a code.

    Args:
        code: A finding or a cause of the vocabulary.
    """
    return _finding(code) if code in FINDINGS else _cause(code)


def _finding(code: str) -> Page:
    finding = FINDINGS[code]
    detector = _detectors().get(code)
    rows = sorted((row for row in KNOWLEDGE if code in row.symptoms), key=lambda row: -row.symptoms[code])
    return Page(
        code,
        "finding",
        finding.meaning,
        severity=str(finding.severity),
        document=_document(code)
        if detector is None
        else (inspect.getdoc(type(detector)) or "").partition("\n")[2].strip(),
        thresholds=_other_thresholds(code) if detector is None else tuple(_thresholds(detector)),
        example=("", "") if detector is None else _example(detector),
        related=tuple(row.code for row in rows),
        remedies=tuple((row.code, _remedy(row)) for row in rows[:MAX_CAUSES]),
    )


def _document(code: str) -> str:
    """Of a finding that no detector makes."""
    return recall.EXPLAINED if code == recall.CODE else dataset_checks.document(code)


def _other_thresholds(code: str) -> tuple[tuple[str, str], ...]:
    if code != recall.CODE:
        return dataset_checks.thresholds(code)
    shown = ("similar_share", "min_failures", "wait_s", "experiments")
    return tuple((name, str(getattr(FailureMemory(), name))) for name in shown)


def _cause(code: str) -> Page:
    row = next((row for row in KNOWLEDGE if row.code == code), None)
    if row is None:
        return Page(code, "cause", CAUSES[code].meaning)
    evidence = [first for clue in row.clues if (first := (inspect.getdoc(clue) or "").partition("\n")[0])]
    return Page(
        code,
        "cause",
        CAUSES[code].meaning,
        related=tuple(row.symptoms),
        evidence=tuple(dict.fromkeys(evidence)),
        remedies=((code, _remedy(row)),),
        config=row.config,
    )


def _remedy(row: CauseRow) -> str:
    return row.remedy(Case([], None, History(), None))


@cache
def _detectors() -> dict[str, Any]:
    """Each detector by its code."""
    return {d.code: d for d in detectors_for(Settings(detectors="full", patience=1, sinks=[]))}


def _thresholds(detector: Any) -> Iterator[tuple[str, str]]:
    if is_dataclass(detector):
        for setting in fields(detector):
            if not setting.name.startswith("_"):
                yield setting.name, str(getattr(detector, setting.name))


def _example(detector: Any) -> tuple[str, str]:
    """The first of the series that must trip the detector, and what it says."""
    for example in getattr(detector, "TRIPS", ()):
        found = replay(detector, example, every_steps=EXAMPLE_EVERY_STEPS)
        if found:
            return example.name, found[0].message
    return "", ""
