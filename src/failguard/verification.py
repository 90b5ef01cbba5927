"""After a failed run: write its capsule, have the remedies tried on it, tell it in the report."""

from __future__ import annotations

import tempfile
from pathlib import Path

from failguard.core.capsule import FOLDER, CapsuleInfo, CapsuleRefused
from failguard.core.host import WritesCapsule
from failguard.core.log import logger
from failguard.report.run_report import RunReport
from failguard.sinks.files import write_json
from failguard.trials.evidence import add_evidence
from failguard.trials.process import LIMIT_S, run_trials, write_report
from failguard.trials.record import RESULT
from failguard.trials.results import Verification

__all__ = ["keep_and_verify"]


def keep_and_verify(
    report: RunReport, host: WritesCapsule, failed_step: int | None, *, runs_trials: bool
) -> Verification | None:
    """Write the capsule of a failed run into its record, and try the remedies in a process of its own.

    Without a local record the capsule goes to a temporary folder and is gone afterwards.

    Args:
        report: Completed.
        host: Kept what is needed.
        failed_step: Step of the first finding at error or above.
        runs_trials: Try the remedies now; else only write the capsule.

    Returns:
        What was found; ``None`` where nothing was tried.
    """
    if report.exception is not None and report.exception.interrupt:
        return None  # whoever ends a run does not want to wait
    local = report.locations.get("local")
    if local is not None and not Path(local).is_dir():  # a relative path, and the program has changed its folder
        local = None
    if local is None and not runs_trials:
        report.notes.append("There is no local record, so no capsule was written for `failguard verify`.")
        return None
    if local is not None:
        return _in_folder(Path(local) / FOLDER, report, host, failed_step, runs_trials)
    with tempfile.TemporaryDirectory(prefix="failguard_capsule_", ignore_cleanup_errors=True) as folder:
        return _in_folder(Path(folder) / FOLDER, report, host, failed_step, runs_trials)


def _in_folder(
    folder: Path, report: RunReport, host: WritesCapsule, failed_step: int | None, runs_trials: bool
) -> Verification | None:
    try:
        info = host.write_capsule(folder, failed_step)
    except CapsuleRefused as refusal:
        report.notes.append(f"Remedies cannot be tried: {refusal}.")
        return None
    if info is None:
        return None
    write_report(folder, report)
    if folder.parent == Path(report.locations.get("local", "")):
        report.notes.append(_describe(info, folder))
    if not runs_trials:
        return None
    logger.info("failguard: the remedies are tried in a process of their own, for at most %g s.", LIMIT_S)
    found = run_trials(folder)
    write_json(folder / RESULT, found.to_dict())
    add_evidence(report, found)
    return found


def _describe(info: CapsuleInfo, folder: Path) -> str:
    return (
        f"The starting weights and {info.batches} batches were kept in {str(folder)!r} ({info.size_bytes / 1e6:,.1f} "
        "MB). They hold your data; `failguard verify` reads them."
    )
