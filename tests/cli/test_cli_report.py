from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import failguard
from failguard.cli.app import app
from failguard.core.containment import Containment
from failguard.report.run_report import RunReport
from failguard.sinks import mlflow_read
from failguard.sinks.delivery import Delivery
from failguard.sinks.files import LocalRecord


def record(directory: str = "failguard_runs") -> RunReport:
    """A run with a finding, written as the guard writes it."""
    report = failguard.analyze({"train_loss": [1.0, float("nan")], "val_loss": [1.0, 0.5]}, per="epoch")
    delivery = Delivery([LocalRecord(directory)], Containment())
    delivery.start(report)
    delivery.finish(report)
    return report


def show(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["report", *arguments])


def test_by_id_prefix_folder_and_file() -> None:
    record_id = record().run.record_id
    folder = Path("failguard_runs", record_id)
    for name in (record_id, record_id[:-3], str(folder), str(folder / "failguard" / "report.json")):
        result = show(name)
        assert result.exit_code == 0, result.stderr
        assert "loss.non_finite" in result.stdout


def test_from_another_directory() -> None:
    record_id = record("elsewhere").run.record_id
    assert show(record_id).exit_code == 2
    assert show(record_id, "--record-dir", "elsewhere").exit_code == 0


def test_json_html_and_markdown() -> None:
    report = record()
    result = show(report.run.record_id, "--json", "--html", "r.html", "--md", "r.md")
    assert json.loads(result.stdout)["run"]["record_id"] == report.run.record_id
    assert "loss.non_finite" in Path("r.html").read_text()
    assert Path("r.md").read_text().startswith("# Failed at step 1")
    assert show(report.run.record_id, "--html", "r.html").stdout == ""


def test_an_ambiguous_prefix_and_a_near_name() -> None:
    first, second = record().run.record_id, record().run.record_id
    result = show(first[:4])
    assert result.exit_code == 2
    assert first in result.stderr
    assert second in result.stderr
    result = show(first[:-1] + "zz")
    assert result.exit_code == 2
    assert first in result.stderr


def test_a_folder_without_a_record() -> None:
    Path("empty").mkdir()
    result = show("empty")
    assert result.exit_code == 2
    assert "holds no record" in result.stderr


def test_a_damaged_record() -> None:
    folder = Path("failguard_runs", record().run.record_id)
    (folder / "failguard" / "report.json").write_text("{")
    result = show(str(folder))
    assert result.exit_code == 0
    assert "loss.non_finite" in result.stdout
    assert "is damaged" in result.stdout
    (folder / "failure_analysis.json").unlink()
    result = show(str(folder))
    assert result.exit_code == 2
    assert "is no record" in result.stderr


def test_an_mlflow_run_id_is_looked_up_in_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    report = record()
    asked: list[str] = []

    def read_report(run_id: str) -> RunReport:
        asked.append(run_id)
        return report

    monkeypatch.setattr(mlflow_read, "read_report", read_report)
    assert "loss.non_finite" in show("0" * 32).stdout
    assert show("no-run-id").exit_code == 2
    assert asked == ["0" * 32], "MLflow is not loaded for what cannot be a run id"


def test_resources_of_several_runs_side_by_side() -> None:
    first, second = record().run.record_id, record().run.record_id
    result = show(first, second, "--resources")
    assert result.exit_code == 0, result.stderr
    head = result.stdout.splitlines()[0]
    assert first in head
    assert second in head
    assert "Status" in result.stdout
    as_json = json.loads(show(first, second, "--resources", "--json").stdout)
    assert [row["run"] for row in as_json] == [first, second]


def test_several_runs_need_resources() -> None:
    first, second = record().run.record_id, record().run.record_id
    result = show(first, second)
    assert result.exit_code == 2
    assert "--resources" in result.stderr
