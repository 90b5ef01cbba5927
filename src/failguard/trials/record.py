"""Trials that were made after the run, added to its record."""

from __future__ import annotations

from pathlib import Path

from failguard.core.capsule import FOLDER
from failguard.sinks.files import LocalRecord, load_record, write_json
from failguard.trials.evidence import add_evidence
from failguard.trials.results import Verification

__all__ = ["RESULT", "add_to_record"]

RESULT = "verification.json"  # within the capsule


def add_to_record(folder: Path, found: Verification) -> None:
    """Write what trials gave into the capsule, and tell it in the report and its pages.

    Args:
        folder: Of the record.
        found: The trials.

    Raises:
        InputError: The record cannot be read.
        OSError: It cannot be written.
    """
    write_json(folder / FOLDER / RESULT, found.to_dict())
    report = load_record(folder)
    add_evidence(report, found)
    if report.run.record_id == folder.name:  # else it is a copy under another name, and stays as it is
        LocalRecord(folder.parent).finish(report)
