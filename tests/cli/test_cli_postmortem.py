"""``failguard postmortem`` over a real store: written, edited, applied."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from failguard.cli.app import app
from failguard.runs.registry import Registry

make_adder = runpy.run_path(str(Path(__file__).parents[1] / "runs" / "conftest.py"))["make_adder"]
Add = Callable[..., str]


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path = tmp_path_factory.mktemp("empty_store") / "mlflow.db"
    SqlAlchemyStore(f"sqlite:///{path}", "./mlruns").engine.dispose()
    return path


@pytest.fixture
def client(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from mlflow.tracking import MlflowClient

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def failed(client: Any) -> str:
    """A failed run, as the MLflow sink leaves it, without the files that take a second to draw."""
    import failguard
    from failguard.report.analysis import failure_analysis
    from failguard.sinks import mlflow_values as values

    report = failguard.analyze(
        {"train_loss": [2.0, 1.0, float("nan")], "val_loss": [2.0, 1.0, 1.1]}, per="epoch", config={"lr": 0.3}
    )
    add = make_adder(client)
    run_id: str = add("lr 0.3", tags={**values.tags(report), "mlflow.user": "grace"})
    client.log_dict(run_id, failure_analysis(report), "failure_analysis.json")
    return run_id


def postmortem(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["postmortem", *arguments])


def test_written_edited_and_applied(failed: str, client: Any) -> None:
    result = postmortem(failed[:10], "-o", "pm.md")
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    path = Path("pm.md")
    text = path.read_text(encoding="utf-8")
    assert "## What Happened" in text
    assert "loss.non\\_finite" in text
    assert "grace" not in text
    text = text.replace(
        "## Lessons for Team\n", "## Lessons for Team\n\n- never lr>=0.3\n- Ask earlier: token=hunter2\n"
    )
    text = text.replace("productive (proposed)", "wasteful").replace(
        "## Action Items\n", "## Action Items\n\n1. lr=0.03\n"
    )
    path.write_text(text, encoding="utf-8")
    refused = postmortem(failed, "-o", "pm.md")
    assert refused.exit_code == 2
    assert "may have been edited" in refused.stderr
    assert path.read_text(encoding="utf-8") == text

    done = postmortem(failed, "--apply", "pm.md")
    assert done.exit_code == 0, done.stderr
    assert "Lesson: never lr>=0.3\n" in done.stdout
    assert "Action item: lr=0.03\n" in done.stdout
    assert "Classification: wasteful: " in done.stdout
    entry = Registry().get(failed)
    assert entry.lessons[0] == "never lr>=0.3"
    assert "hunter2" not in str(entry.notes)
    assert "lr=0.03" in entry.next_steps
    stored = Path(client.download_artifacts(failed, "failguard/post_mortem.md")).read_text(encoding="utf-8")
    assert "never lr>=0.3" in stored
    assert "hunter2" not in stored

    again = postmortem(failed, "--apply", "pm.md")
    assert again.stdout.startswith("Everything in the file is on the run already.")
    assert len(Registry().get(failed).notes) == len(entry.notes)
    # A later version: the file before is kept.
    path.write_text(text.replace("never lr>=0.3", "never lr>=0.1"), encoding="utf-8")
    third = postmortem(failed, "--apply", "pm.md")
    assert "the one before is kept as failguard/post_mortem_1.md" in third.stdout
    assert {a.path for a in client.list_artifacts(failed, "failguard")} == {
        "failguard/post_mortem.md",
        "failguard/post_mortem_1.md",
    }
    # What is noted comes with its mark, and reads back as nothing new.
    shown = postmortem(failed)
    assert "**Classification**: wasteful\n" in shown.stdout
    assert "- never lr\\>=0.1 <!-- note " in shown.stdout
    Path("new.md").write_text(shown.stdout, encoding="utf-8")
    count = len(Registry().get(failed).notes)
    assert postmortem(failed, "--apply", "new.md").exit_code == 0
    assert len(Registry().get(failed).notes) == count


def test_a_refused_file_leaves_everything_as_it_was(failed: str, client: Any) -> None:
    before = client.get_run(failed).data.tags
    other = make_adder(client)("other")
    for text, word in (
        ("free text", "no post-mortem of failguard"),
        (postmortem(failed).stdout.replace("## Lessons for Team", ""), "section 'Lessons for Team' is missing"),
        (postmortem(other).stdout, "is of run"),
    ):
        Path("pm.md").write_text(text, encoding="utf-8")
        result = postmortem(failed, "--apply", "pm.md")
        assert result.exit_code == 2
        assert word in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert client.get_run(failed).data.tags == before
    assert client.list_artifacts(failed, "failguard") == []


def test_the_kind_is_stated(failed: str) -> None:
    result = postmortem(failed, "--system")
    assert "Noted on the run: system." in result.stderr
    assert "**Classification**: system\n" in result.stdout
    assert "Noted" not in postmortem(failed, "--system").stderr
    assert json.loads(postmortem(failed, "--productive", "--json").stdout)["classification"]["kind"] == "productive"
    notes = [n for n in Registry().get(failed).notes if n.kind == "classification"]
    assert [(n.text, n.replaces) for n in notes] == [("system", None), ("productive", notes[0].id)]


def test_what_cannot_be_done(failed: str) -> None:
    for arguments, word in (
        ((failed, "--system", "--wasteful"), "a failure is of one kind"),
        ((failed, "--apply", "pm.md", "--system"), "state the kind in the file"),
        ((failed, "--apply", "pm.md"), "cannot be read"),
        (("0" * 32,), "There is no run"),
    ):
        result = postmortem(*arguments)
        assert result.exit_code == 2
        assert word in result.stderr


def test_runs_that_failguard_did_not_watch(client: Any) -> None:
    add = make_adder(client)
    for status, word in (
        ("FINISHED", "failguard did not watch the run"),
        ("FAILED", "nothing was recorded about the reason"),
        ("KILLED", "The run was interrupted"),
        (None, "the run has not ended"),
    ):
        result = postmortem(add("plain", status=status))
        assert result.exit_code == 0, result.stderr
        assert word in result.stdout


def test_a_healthy_run(client: Any) -> None:
    run_id = make_adder(client)("fine", tags={"failguard.status": "completed", "failguard.outcome": "success"})
    result = postmortem(run_id)
    assert "there is nothing to mourn" in result.stdout
    assert "Classification" not in result.stdout.replace("Classification: productive (it", "")
