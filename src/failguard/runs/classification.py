"""Was a failure productive, wasteful, or one of the system? Proposed with its reason; people decide."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from failguard.runs.entry import RunEntry
from failguard.runs.judged import end_of, start_of
from failguard.runs.lessons import current_notes

__all__ = ["CLASSES", "SYSTEM_CAUSES", "SYSTEM_FINDINGS", "Classification", "classify", "earlier_failures", "stated"]

CLASSES = ("productive", "wasteful", "system")
"""As the source tells failures apart."""

# What the machine or its surroundings did to the run.
SYSTEM_CAUSES = frozenset({"disk_full", "hardware_fault", "host_memory_leak", "network_or_collective_failure"})
SYSTEM_FINDINGS = frozenset(
    {"resource.disk_low", "resource.gpu_error", "resource.gpu_throttled", "resource.oom", "run.hang", "run.interrupted"}
    | {"run.straggler", "run.replica_mismatch"}
)


# An accident of the program proves nothing about the approach.
ACCIDENTS = frozenset(
    {"user_code_error", "shape_mismatch", "dtype_mismatch", "device_mismatch", "serialization_failure"}
    | {"missing_file_or_column", "interrupted"}
)


@dataclass(frozen=True, slots=True)
class Classification:
    """What kind of failure it was.

    Attributes:
        kind: ``"productive"``, ``"wasteful"`` or ``"system"``; ``"undecided"`` where what is known does not say.
        reason: Why, in one sentence.
        is_stated: A person said so; else it is proposed.
    """

    kind: str
    reason: str
    is_stated: bool = False


def stated(entry: RunEntry) -> Classification | None:
    """What people said of a failure: the newest note of the kind that says one of the three words."""
    for note in reversed(current_notes(entry, ("classification",))):
        word, _, reason = note.text.partition(":")
        if word.strip().lower() in CLASSES:
            return Classification(word.strip().lower(), reason.strip() or "Stated by the team.", is_stated=True)
    return None


def earlier_failures(entry: RunEntry, entries: Iterable[RunEntry]) -> list[RunEntry]:
    """Failures that had ended when this run started and are like it, the newest first.

    Like it is the same fingerprint; or the same root finding with the same likely cause.
    """
    found = []
    for other in entries:
        if other.run_id == entry.run_id or not other.failed or end_of(other) > start_of(entry):
            continue
        same_print = entry.fingerprint is not None and other.fingerprint == entry.fingerprint
        same_kind = entry.finding is not None and (other.finding, other.cause) == (entry.finding, entry.cause)
        if same_print or same_kind:
            found.append(other)
    return sorted(found, key=lambda e: (start_of(e), e.run_id), reverse=True)


def classify(entry: RunEntry, entries: Iterable[RunEntry]) -> Classification | None:
    """Propose what kind of failure a run was.

    As the source tells them apart: *system* where the machine or its surroundings ended it (memory, disk, network,
    hardware, a hang); *wasteful* where it repeats a failure that was known when it started, by its fingerprint, or by
    finding and cause where a lesson is on the earlier run; else *productive* where a finding shows that the approach
    does not work, and *undecided* where the program itself raised, or nothing is known. What a person stated comes
    first.

    Args:
        entry: The run.
        entries: Runs to compare with.

    Returns:
        ``None`` where nothing failed or the outcome is not known.
    """
    said = stated(entry)
    if said is not None:
        return said
    if not entry.failed:
        return None
    system = next((c for c in (entry.cause,) if c in SYSTEM_CAUSES), None)
    system = system or (entry.finding if entry.finding in SYSTEM_FINDINGS else None)
    if system:
        return Classification("system", f"{system} comes from the machine or its surroundings, not from the approach.")
    earlier = earlier_failures(entry, entries)
    same = [e for e in earlier if entry.fingerprint is not None and e.fingerprint == entry.fingerprint]
    if same:
        reason = (
            f"Run {same[0].run_id[:8]} had failed in the same way (fingerprint {entry.fingerprint}) before it started."
        )
        return Classification("wasteful", reason)
    taught = [e for e in earlier if e.lessons]
    if taught:
        what = f"{entry.finding} by {entry.cause}" if entry.cause else f"{entry.finding}"
        return Classification("wasteful", f"A lesson about {what} was on run {taught[0].run_id[:8]} before it started.")
    if entry.cause in ACCIDENTS or not (entry.finding or entry.cause):
        what = f"{entry.cause or entry.error_type or 'It'} ended the run, which"
        return Classification("undecided", f"{what} proves nothing about the approach.")
    what = f"{entry.finding} by {entry.cause}" if entry.cause else f"{entry.finding}"
    return Classification("productive", f"{what} was new: the run shows that this configuration does not work.")
