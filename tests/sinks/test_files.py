from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from failguard.core.finding import Status
from failguard.core.observation import ExceptionFacts
from failguard.errors import FailGuardError
from failguard.sinks import files
from failguard.sinks.base import Sink
from failguard.sinks.files import LocalRecord, load_record


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where records go that find no other place."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))


def names_in(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_is_a_sink() -> None:
    assert isinstance(LocalRecord(), Sink)


def test_the_folder_of_a_failed_run(make_report: Any, tmp_path: Path) -> None:
    record = LocalRecord("runs")
    record.start(make_report())
    assert record.location == os.path.join("runs", "20260101-100000-torch-abc123")
    folder = tmp_path / record.location
    assert load_record(folder).status is Status.RUNNING
    error = ExceptionFacts("RuntimeError", "bad", "Traceback...\nRuntimeError: bad\n")
    record.finish(make_report(Status.FAILED, failing=True, exception=error))
    assert names_in(folder) == {
        "failure_analysis.json",
        "error_trace.txt",
        "failguard/report.html",
        "failguard/report.md",
        "failguard/report.json",
        "failguard/resources.json",
        "failguard/history.jsonl",
        "failguard/experiment_record.json",
        "failguard/experiment_record.md",
    }
    for name in ("failure_analysis.json", "failguard/report.json", "failguard/resources.json"):
        strict((folder / name).read_text(encoding="utf-8"))
    rows = [strict(line) for line in (folder / "failguard/history.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    assert rows[0] == {
        "name": "loss", "per": "step", "start": 0, "count": 1, "finite": 1, "mean": 1.0, "low": 1.0, "high": 1.0,
    }  # fmt: skip
    assert (folder / "error_trace.txt").read_text() == error.trace
    assert strict((folder / "failure_analysis.json").read_text())["root"]["evidence"] == {"loss": "NaN"}
    assert (tmp_path / "runs" / ".gitignore").read_text() == "*\n"
    loaded = load_record(folder)
    assert loaded.status is Status.FAILED
    assert loaded.root is not None
    assert loaded.root.code == "loss.divergence"
    assert loaded.locations["local"] == str(folder)


def test_no_trace_without_an_exception(make_report: Any) -> None:
    record = LocalRecord()
    record.start(make_report())
    record.finish(make_report(Status.COMPLETED))
    assert record.location is not None
    assert not Path(record.location, "error_trace.txt").exists()
    assert Path(record.location, "failure_analysis.json").exists()


def test_a_directory_with_other_things_in_it_gets_no_gitignore(make_report: Any, tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    record = LocalRecord(".")
    record.start(make_report())
    assert record.location is not None
    assert not (tmp_path / ".gitignore").exists()
    assert (tmp_path / record.location / ".gitignore").read_text() == "*\n"


def test_a_folder_change_while_training(make_report: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = LocalRecord("runs")
    record.start(make_report())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    record.finish(make_report(Status.COMPLETED))
    assert load_record(tmp_path / "runs" / "20260101-100000-torch-abc123").status is Status.COMPLETED
    assert not names_in(tmp_path / "elsewhere")


def test_a_record_directory_that_cannot_be_written(
    make_report: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("a file")
    record = LocalRecord("taken")
    record.start(make_report())
    record.finish(make_report(Status.COMPLETED))
    assert record.location is not None
    assert load_record(record.location).status is Status.COMPLETED
    assert record.note is not None
    for word in ("'taken'", "record_dir", record.location):
        assert word in record.note
        assert word in caplog.text


def test_a_disk_that_is_full_at_the_end(
    make_report: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record = LocalRecord("runs")
    record.start(make_report())
    real = os.fsync

    def full(descriptor: int) -> None:
        if str(tmp_path / "runs") in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(files.os, "fsync", full)
    record.progress(make_report(failing=True))  # no error
    record.finish(make_report(Status.STOPPED))
    assert record.location is not None
    assert not record.location.startswith("runs")
    assert load_record(record.location).status is Status.STOPPED
    assert "No space left" in caplog.text
    # What was there before is whole, and nothing half-written lies beside it.
    assert load_record(tmp_path / "runs" / "20260101-100000-torch-abc123").status is Status.RUNNING
    assert not [n for n in names_in(tmp_path) if n.endswith(".tmp")]


def test_nowhere_to_write(make_report: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("a file")

    def no_temporary(prefix: str) -> str:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files.tempfile, "mkdtemp", no_temporary)
    with pytest.raises(FailGuardError, match=r"'taken'.*Read-only.*record_dir"):
        LocalRecord("taken").start(make_report())


def test_a_page_that_cannot_be_made_does_not_cost_the_others(make_report: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    report = make_report(Status.COMPLETED)
    monkeypatch.setattr(type(report), "to_markdown", lambda self: 1 / 0)
    record = LocalRecord()
    record.start(report)
    with pytest.raises(ZeroDivisionError):
        record.finish(report)
    assert record.location is not None
    assert {"failguard/report.html", "failguard/report.json", "failure_analysis.json"} <= names_in(
        Path(record.location)
    )


def test_progress_is_written_seldom_but_a_new_finding_at_once(make_report: Any) -> None:
    record = LocalRecord()
    record.start(make_report(steps=0))
    record.progress(make_report(steps=1))
    record.progress(make_report(steps=2))
    assert record.location is not None
    assert load_record(record.location).progress.steps == 1
    record.progress(make_report(steps=3, failing=True))
    assert load_record(record.location).progress.steps == 3


def test_text_that_cannot_be_encoded(make_report: Any) -> None:
    record = LocalRecord()
    report = make_report(Status.COMPLETED)
    report.notes.append("lone \ud800 surrogate")
    record.start(report)
    record.finish(report)
    assert record.location is not None
    assert "surrogate" in load_record(record.location).notes[0]
