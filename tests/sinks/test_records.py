from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from failguard.core.finding import Status
from failguard.errors import InputError
from failguard.sinks.files import LocalRecord, write_json
from failguard.sinks.records import DELIVERY, find_record, is_alive, load_record, record_folders, this_process


@pytest.fixture
def runs(make_report: Any, tmp_path: Path) -> Path:
    for name in ("20260101-torch-aaa", "20260101-torch-abb", "20260202-keras-ccc"):
        record = LocalRecord("runs")
        record.start(make_report(record_id=name))
        record.finish(make_report(Status.COMPLETED, record_id=name))
    return tmp_path / "runs"


def test_find_by_id_or_its_beginning(runs: Path) -> None:
    assert find_record(runs, "20260202-keras-ccc").name == "20260202-keras-ccc"
    assert find_record(runs, "202602").name == "20260202-keras-ccc"
    assert [f.name for f in record_folders(runs)] == ["20260101-torch-aaa", "20260101-torch-abb", "20260202-keras-ccc"]


def test_what_cannot_be_found_is_named_with_near_ones(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'20260202-keras-cdc'.*Near ones: 20260202-keras-ccc"):
        find_record(runs, "20260202-keras-cdc")
    with pytest.raises(InputError, match=r"2 records .* begin with '20260101': .*aaa, .*abb"):
        find_record(runs, "20260101")
    with pytest.raises(InputError, match="There is no record ''"):
        find_record(runs, "")
    with pytest.raises(InputError, match=r"There are no records in .*nowhere"):
        find_record(tmp_path / "nowhere", "x")


def test_load_by_folder_or_file(runs: Path) -> None:
    folder = runs / "20260101-torch-aaa"
    assert load_record(folder) == load_record(folder / "failguard" / "report.json")
    with pytest.raises(InputError, match="holds no record"):
        load_record(runs)


def test_a_broken_record(runs: Path) -> None:
    path = runs / "20260101-torch-aaa" / "failguard" / "report.json"
    path.write_text('{"half":')
    (runs / "20260101-torch-aaa" / "failure_analysis.json").write_text('{"half":')
    with pytest.raises(InputError, match=r"report\.json.*The rest of the record cannot be used either"):
        load_record(path)


def test_later_sinks_are_in_the_record(runs: Path) -> None:
    folder = runs / "20260101-torch-aaa"
    state = {
        "locations": {"local": "old", "mlflow": "http://x/#/1"},
        "part_errors": [{"part": "sink alerts", "message": "no route"}],
        "notes": ["a note"],
    }
    write_json(folder / DELIVERY, state)
    report = load_record(folder)
    assert report.locations == {"local": str(folder), "mlflow": "http://x/#/1"}
    assert [e.part for e in report.part_errors] == ["sink alerts"]
    assert report.notes == ["a note"]
    (folder / DELIVERY).write_text("[not a state")
    assert load_record(folder).part_errors == []


def test_a_killed_process(make_report: Any, tmp_path: Path) -> None:
    record = LocalRecord("runs")
    record.start(make_report())
    folder = tmp_path / "runs" / "20260101-100000-torch-abc123"
    assert load_record(folder).status is Status.RUNNING  # nothing is known of the process
    write_json(folder / DELIVERY, {"process": this_process()})
    assert load_record(folder).status is Status.RUNNING  # it lives
    child = subprocess.run(
        [sys.executable, "-c", "import json; from failguard.sinks.records import *; print(json.dumps(this_process()))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    import json

    process = json.loads(child.stdout)
    write_json(folder / DELIVERY, {"process": process})
    report = load_record(folder)
    assert report.status is Status.INTERRUPTED
    assert "killed" in report.notes[-1]
    assert is_alive({**process, "host": "another"}) is None
    assert is_alive(None) is None


@pytest.mark.parametrize("content", ["", '{"half":', '{"status": "melted"}'])
def test_a_damaged_report_is_read_from_the_other_files(runs: Path, content: str) -> None:
    folder = runs / "20260101-torch-aaa"
    whole = load_record(folder)
    (folder / "failguard" / "report.json").write_text(content)
    finding = {"code": "loss.non_finite", "severity": "error", "step": 41, "epoch": 2, "message": "The loss is nan."}
    analysis = {"status": "stopped", "findings": [finding], "root": finding, "causes": [], "config_issues": []}
    (folder / "failure_analysis.json").write_text(json.dumps(analysis))
    row = {"name": "loss", "per": "step", "start": 0, "count": 50, "finite": 50, "mean": 1.0, "low": 1.0, "high": 1.0}
    (folder / "failguard" / "history.jsonl").write_text(json.dumps(row) + '\n{"name": "lo')
    report = load_record(folder)
    assert (report.status, report.root.code, report.progress.steps) == ("stopped", "loss.non_finite", 50)
    assert report.run.record_id == folder.name
    assert "damaged" in report.notes[0]
    assert len(report.history) == 1
    assert whole.locations["local"] == report.locations["local"]
