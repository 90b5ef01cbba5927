"""The local record: one folder a run, written first and atomically, so that nothing recorded is ever lost."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from failguard.core.log import logger
from failguard.errors import FailGuardError
from failguard.report.analysis import failure_analysis
from failguard.report.experiment_record import ExperimentRecord
from failguard.report.plain import plain
from failguard.report.run_report import RunReport
from failguard.sinks.records import DELIVERY, REPORT, find_record, load_record

__all__ = ["ARTIFACTS", "LocalRecord", "artifact_texts", "find_record", "load_record", "write_json"]

# What MLflow gets too, under the same names.
ARTIFACTS = (
    "failure_analysis.json",
    "error_trace.txt",
    "failguard/report.html",
    "failguard/report.md",
    "failguard/resources.json",
    "failguard/history.jsonl",
    "failguard/experiment_record.json",
    "failguard/experiment_record.md",
)


def artifact_texts(report: RunReport) -> Iterator[tuple[str, Callable[[], str]]]:
    """The files of a record by name, each with the function that renders it. JSON is strict.

    Floats that are not finite are written as ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.
    """
    exception = report.exception
    yield "failure_analysis.json", lambda: _json(failure_analysis(report))
    if exception is not None:
        yield "error_trace.txt", lambda: exception.trace or f"{exception.type_name}: {exception.message}\n"
    yield "failguard/history.jsonl", lambda: "".join(_json(row, indent=None) + "\n" for row in report.history)
    yield "failguard/resources.json", lambda: _json(report.resources)
    yield "failguard/experiment_record.json", lambda: ExperimentRecord.from_report(report).to_json() + "\n"
    yield "failguard/experiment_record.md", lambda: ExperimentRecord.from_report(report).to_markdown().lstrip()
    yield "failguard/report.md", report.to_markdown
    yield "failguard/report.html", report.to_html


def write_json(path: Path, value: Any) -> None:
    """Write a value as strict JSON, atomically.

    Raises:
        OSError: It cannot be written; what was there before is still there.
    """
    _write(path, _json(value))


class LocalRecord:
    """Writes ``<record_dir>/<record id>/``: the same files as the MLflow artifacts, the full report and the delivery.

    A directory that cannot be written, or a disk that is full at the end, is reported with its remedy, and the record
    goes to a temporary directory.

    Args:
        record_dir: Where the folders go; made when needed, with a ``.gitignore`` of its own.

    Attributes:
        location: The folder of the current run, as ``record_dir`` was given; ``None`` before the first.
        note: A remark for the report, such as where the record went instead.
    """

    name = "local"
    background = False

    def __init__(self, record_dir: str | os.PathLike[str] = "failguard_runs") -> None:
        self.record_dir = os.fspath(record_dir)
        self.location: str | None = None
        self.note: str | None = None
        self._folder: Path | None = None
        self._next_at = 0.0
        self._findings = 0

    def start(self, report: RunReport) -> None:
        """Make the folder and write the report with status ``running``: a killed process leaves that."""
        self.location, self.note, self._folder = None, None, None
        self._next_at, self._findings = 0.0, 0
        record_dir = os.path.expanduser(self.record_dir)
        try:
            self._open(Path(record_dir).absolute(), report.run.record_id)
            self.location = os.path.join(record_dir, report.run.record_id)
            self._write_report(report)
        except OSError as error:
            self._fall_back(report, error)
            self._write_report(report)

    def progress(self, report: RunReport) -> None:
        """Write the report so far, if there is a new finding or the last time was long ago.

        A failure is no matter: the last one written is still there.
        """
        started = monotonic()
        if started < self._next_at and len(report.findings) == self._findings:
            return
        try:
            self._write_report(report)
        except OSError as error:
            logger.debug("failguard: the record could not be updated: %s", error)
        self._findings = len(report.findings)
        # Writing takes the interpreter from the training thread: at most a thousandth of its time.
        self._next_at = monotonic() + 1000 * (monotonic() - started)

    def finish(self, report: RunReport) -> None:
        """Write everything."""
        try:
            self._write_all(report)
        except OSError as error:
            self._fall_back(report, error)
            self._write_all(report)

    def write_delivery(self, state: Mapping[str, Any]) -> None:
        """Write what became of the record in the other sinks.

        Raises:
            OSError: It cannot be written.
        """
        if self._folder is not None:
            write_json(self._folder / DELIVERY, state)

    def _open(self, record_dir: Path, record_id: str) -> None:
        is_new = not record_dir.exists()
        folder = record_dir / record_id
        (folder / "failguard").mkdir(parents=True, exist_ok=True)
        # In a directory that holds other things of the user's, only the run's own folder is kept from git.
        for ignore in (record_dir / ".gitignore", folder / ".gitignore"):
            if ignore.exists():
                break
            if is_new or ignore.parent == folder:
                _write(ignore, "*\n")
                break
        self._folder = folder

    def _fall_back(self, report: RunReport, error: OSError) -> None:
        """Go on in a temporary directory and say so."""
        tried = self.record_dir
        try:
            self._open(Path(tempfile.mkdtemp(prefix="failguard_runs_")), report.run.record_id)
        except OSError as second:
            raise FailGuardError(
                f"The record directory {tried!r} cannot be written ({error}), and neither can a temporary one "
                f"({second}). Set record_dir to a directory that can be written and has space."
            ) from second
        self.location = str(self._folder)
        self.note = (
            f"The record directory {tried!r} cannot be written ({error.strerror or error}). This run's record is in "
            f"{self.location}. Set record_dir to a directory that can be written and has space."
        )
        logger.warning("failguard: %s", self.note)

    def _write_report(self, report: RunReport) -> None:
        assert self._folder is not None
        report.locations["local"] = self.location or ""
        _write(self._folder / REPORT, json.dumps(report.to_dict(), allow_nan=False, ensure_ascii=False))

    def _write_all(self, report: RunReport) -> None:
        if self._folder is None:  # there was no start, or it failed
            self.start(report)
        assert self._folder is not None
        (self._folder / "failguard").mkdir(parents=True, exist_ok=True)  # in case someone removed it
        self._write_report(report)
        broken: Exception | None = None
        for name, render in artifact_texts(report):
            try:
                text = render()
            except Exception as error:  # noqa: BLE001  # one page that cannot be made does not cost the others
                broken = broken or error
                continue
            _write(self._folder / name, text)
        if broken is not None:
            raise broken


def _json(value: Any, indent: int | None = 1) -> str:
    return json.dumps(plain(value), allow_nan=False, ensure_ascii=False, indent=indent)


def _write(path: Path, text: str) -> None:
    with _replacing(path) as temporary:
        # A lone surrogate in the user's text cannot be encoded; it must not cost the record.
        temporary.write(text.encode("utf-8", "replace"))


@contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    """A file that takes the place of ``path`` once it is complete and on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
