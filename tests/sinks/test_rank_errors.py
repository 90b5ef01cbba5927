from __future__ import annotations

import time
from pathlib import Path

import pytest

from failguard.core.observation import ExceptionFacts
from failguard.sinks.rank_errors import first_error, leave_error


def test_the_earliest_error_of_the_job_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_PORT", "29500")
    before = time.time()
    for pid, rank in ((11, "3"), (12, "1")):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setattr("os.getpid", lambda pid=pid: pid)
        leave_error(tmp_path, ExceptionFacts("ValueError", f"from rank {rank}"))
    first = first_error(tmp_path, before)
    assert first is not None
    assert (first[0], first[1].message) == ("3", "from rank 3")
    assert first_error(tmp_path, time.time() + 60, wait_s=0.0) is None, "of an earlier run"
    monkeypatch.setenv("MASTER_PORT", "29501")
    assert first_error(tmp_path, before, wait_s=0.0) is None, "of another job"


def test_damaged_files_and_folders_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_PORT", "29500")
    leave_error(tmp_path, ExceptionFacts("ValueError", "x"))
    (left,) = tmp_path.rglob("*.json")
    left.with_name("9.json").write_text('{"rank"')
    assert first_error(tmp_path, 0.0) is not None
    blocked = tmp_path / "file"
    blocked.write_text("")
    leave_error(blocked, ExceptionFacts("ValueError", "x"))
    assert first_error(blocked, 0.0, wait_s=0.0) is None
