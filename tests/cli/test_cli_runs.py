"""``failguard runs`` over a real store."""

from __future__ import annotations

import csv
import io
import json
import os
import runpy
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from failguard.cli.app import app

make_adder = runpy.run_path(str(Path(__file__).parents[1] / "runs" / "conftest.py"))["make_adder"]
Add = Callable[..., str]
BASE_MS = 1_780_000_000_000
HOUR_MS = 3_600_000


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
def add(client: Any) -> Add:
    return make_adder(client)


def runs(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["runs", *arguments])


def watched(status: str, outcome: str, finding: str = "", **more: str) -> dict[str, str]:
    tags = {"failguard.status": status, "failguard.outcome": outcome, "failguard.finding": finding}
    return {name: value for name, value in {**tags, **more}.items() if value}


@pytest.fixture
def shop(add: Add) -> dict[str, str]:
    """The attempts of a line of work, as in the source: each learns from the last."""
    line = {"failguard.line": "recommender"}
    diverged = watched("stopped", "failure", "loss.divergence", **{"failguard.cause": "learning_rate_too_high"})
    v1 = add("v1", start_ms=BASE_MS, experiment="shop", tags={**diverged, **line}, params={"lr": 3.0, "width": 64})
    v2 = add(
        "v2", start_ms=BASE_MS + HOUR_MS, experiment="shop", params={"lr": 0.3, "width": 64},
        tags={**watched("completed", "partial", "loss.plateau"), **line, "failguard.parent": v1},
    )  # fmt: skip
    v3 = add(
        "v3", start_ms=BASE_MS + 2 * HOUR_MS, experiment="shop", params={"lr": 0.03, "width": 64},
        tags={**watched("completed", "success"), **line, "failguard.parent": v2}, metrics={"val_loss": 0.25},
    )  # fmt: skip
    aside = add("aside", start_ms=BASE_MS + 3 * HOUR_MS, experiment="shop", tags=line, status="FAILED")
    return {"v1": v1, "v2": v2, "v3": v3, "aside": aside}


def test_a_table(shop: dict[str, str]) -> None:
    result = runs("list", "--columns", "lr, val_loss")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line.split()[2:4] for line in lines[2:]] == [
        [shop[name][:8], name] for name in ("aside", "v3", "v2", "v1")
    ]  # fmt: skip
    assert "stopped, failure" in lines[5]
    assert "loss.divergence" in lines[5]
    assert "learning_rate_too_high" in lines[5]
    assert "0.25" in lines[3]
    assert lines[2].split()[5] == "failed"


def test_filters_json_and_csv(shop: dict[str, str], add: Add) -> None:
    add("other", experiment="churn", params={"lr": 5})
    found = json.loads(runs("list", "-e", "shop", "-c", "lr>=0.3", "--status", "stopped", "--json").stdout)
    assert [row["name"] for row in found] == ["v1"]
    rows = list(csv.DictReader(io.StringIO(runs("list", "--csv", "--line", "recommender").stdout)))
    assert [row["name"] for row in rows] == ["aside", "v3", "v2", "v1"]
    assert (rows[1]["config.lr"], rows[1]["metrics.val_loss"], rows[0]["config.lr"]) == ("0.03", "0.25", "")
    assert len(json.loads(runs("list", "--json", "-n", "2").stdout)) == 2
    limited = runs("list", "-n", "2")
    assert "There are more" in limited.stdout
    assert "There are more" not in runs("list", "--all").stdout
    assert [r["name"] for r in json.loads(runs("list", "--since", "1h", "--json").stdout)] == ["other"]


def test_nothing_to_list(client: Any, add: Add) -> None:
    result = runs("list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "There is no run yet" in result.stderr
    add("x")
    assert "meets this" in runs("list", "--status", "failed").stderr
    assert json.loads(runs("list", "--status", "failed", "--json").stdout) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "-e", "shpo"], "shop"),
        (["list", "--status", "bad"], "interrupted"),
        (["list", "--since", "soon"], "7d"),
        (["list", "--json", "--csv"], "Choose one"),
        (["list", "--no-refresh", "--full-refresh"], "Choose one"),
        (["list", "-n", "-1"], "-n"),
        (["list", "-c", "lr"], "lr=0.1"),
        (["show", "v9"], "v1"),
        (["show", "v1", "--store", "sqlite:///missing.db"], "no run"),
        (["compare", "v1", "v1"], "same run"),
        (["note", "v1", "--replaces", "x"], "--replaces"),
        (["note", "v1", "--take-back", "x"], "no one note"),
        (["note", "v1", "--take-back", "x", "--lesson", "y"], "stands alone"),
        (["list", "--store", "http://127.0.0.1:9"], "does not answer"),
    ],
)
def test_bad_input_is_one_line(shop: dict[str, str], arguments: list[str], words: str) -> None:
    result = runs(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_a_killed_run_is_said_to_be_silent(add: Add) -> None:
    add("killed", status=None, start_ms=BASE_MS, metrics={"loss": 1.0}, tags={"failguard.status": "running"})
    add("fresh", status=None)
    listed = runs("list").stdout
    assert "running? silent" in listed
    assert "success" not in listed
    shown = runs("show", "killed").stdout
    assert "Last heard" in shown
    assert "not known: it has no metrics" in runs("show", "fresh").stdout


def test_show(shop: dict[str, str]) -> None:
    shown = runs("show", "v2")
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.startswith("v2 of shop: completed, partial\n")
    assert f"v1 ({shop['v1'][:8]})" in shown.stdout
    assert "lr=0.3, width=64" in shown.stdout
    assert json.loads(runs("show", shop["v2"][:12], "--json").stdout)["parent"] == shop["v1"]


def test_the_line_of_work_is_a_tree(shop: dict[str, str]) -> None:
    runs("note", "v1", "--lesson", "3.0 is too high")
    result = runs("show", "v3", "--line")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "Line of work recommender: 4 attempts"
    place = {name: next(i for i, text in enumerate(lines) if f" {name} " in text) for name in shop}
    assert lines[place["v1"]].startswith("● v1")
    assert "lesson: 3.0 is too high" in lines[place["v1"] + 1]
    assert lines[place["v2"]].startswith("└─ ● v2")
    assert "lr 3 → 0.3" in lines[place["v2"] + 1]
    assert lines[place["v3"]].startswith("   └─ ▶ v3")
    assert lines[place["aside"]].startswith("● aside")
    assert lines[place["aside"] + 1].strip().startswith("after v3: lr 0.03 → -")
    rows = json.loads(runs("show", "v3", "--line", "--json").stdout)
    assert [(row["run"]["name"], row["depth"], row["is_parent"]) for row in rows] == [
        ("v1", 0, False), ("v2", 1, True), ("v3", 2, True), ("aside", 0, False),
    ]  # fmt: skip


def test_a_long_line_is_cut_around_the_run(add: Add) -> None:
    for i in range(60):
        add(f"run-{i}", start_ms=BASE_MS + i)
    result = runs("show", "run-30", "--line")
    assert "60 attempts" in result.stdout
    assert sum("●" in line or "▶" in line for line in result.stdout.splitlines()) == 40
    assert "▶ run-30" in result.stdout


def test_compare(shop: dict[str, str], client: Any) -> None:
    for step in range(5):
        client.log_metric(shop["v1"], "loss", 2.0 + step**4, step=step)
        client.log_metric(shop["v3"], "loss", 2.0 / (step + 1), step=step)
    result = runs("compare", "v1")
    assert result.exit_code == 0, result.stderr
    assert "v3" in result.stdout.splitlines()[0]
    assert [line.split() for line in result.stdout.splitlines() if line.startswith("lr")] == [["lr", "3", "0.03"]]
    assert "loss: apart from step 1 on" in result.stdout
    assert "environment of v1" in result.stdout  # it has no report
    found = json.loads(runs("compare", "v1", "v2", "--json").stdout)
    assert found["config"] == [{"name": "lr", "values": [3.0, 0.3]}]
    assert found["curves"] == []


def test_nothing_to_compare_with(add: Add) -> None:
    add("alone", status="FAILED")
    result = runs("compare", "alone")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Name a run to compare with" in result.stderr


def test_notes(shop: dict[str, str]) -> None:
    assert "has no notes" in runs("note", "v1").stdout
    result = runs("note", "v1", "--lesson", "one", "--lesson", "two", "--next", "three", "--author", "ada")
    assert result.exit_code == 0, result.stderr
    notes = json.loads(runs("note", "v1", "--json").stdout)
    assert [(n["kind"], n["text"], n["author"]) for n in notes] == [
        ("lesson", "one", "ada"), ("lesson", "two", "ada"), ("next_step", "three", "ada"),
    ]  # fmt: skip
    runs("note", "v1", "--lesson", "one and a half", "--replaces", notes[0]["id"])
    runs("note", "v1", "--take-back", notes[2]["id"])
    shown = json.loads(runs("show", "v1", "--json").stdout)
    assert (shown["lessons"], shown["next_steps"]) == (["two", "one and a half"], [])
    said = " ".join(runs("note", "v1").stdout.split())
    assert "taken back" in said
    assert "three" in said


def test_names_of_other_people_cannot_steer_a_terminal(add: Add) -> None:
    add("evil \x1b[2J\nname", tags={"failguard.finding": "x\x1b]0;y\x07"}, status="FAILED")
    for arguments in (["list"], ["list", "--json"], ["show", "evil \x1b[2J\nname"]):
        assert "\x1b" not in runs(*arguments).stdout


def test_without_asking_the_store(shop: dict[str, str], client: Any) -> None:
    assert len(json.loads(runs("list", "--json", "--no-refresh").stdout)) == 4  # the first time it must
    client.delete_run(shop["v1"])
    assert len(json.loads(runs("list", "--json", "--no-refresh").stdout)) == 4
    assert len(json.loads(runs("list", "--json").stdout)) == 3
    client.restore_run(shop["v1"])
    assert len(json.loads(runs("list", "--json", "--full-refresh").stdout)) == 4


def test_a_store_that_broke_is_answered_for_with_a_word(shop: dict[str, str], tmp_path: Path) -> None:
    runs("list")
    (tmp_path / "mlflow.db").write_text("no database")
    result = runs("list")
    assert result.exit_code == 0
    assert "v3" in result.stdout
    assert "What follows is what was known" in result.stderr


@pytest.mark.slow
def test_in_another_time_zone_and_without_mlflow(shop: dict[str, str]) -> None:
    script = (
        "import sys\nfrom failguard.cli.app import app\n"
        "try: app(['runs', 'list', '-e', 'shop', '--until', sys.argv[1]])\n"
        "finally: assert not {'mlflow', 'sqlalchemy', 'numpy'} & set(sys.modules)\n"
    )

    def listed(zone: str, until: str) -> str:
        command = [sys.executable, "-c", script, until]
        done = subprocess.run(
            command, env={**os.environ, "TZ": zone}, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    start = time.gmtime(BASE_MS / 1000)
    assert time.strftime("%Y-%m-%d %H:%M", start) in listed("UTC0", "9999-01-01")
    assert f"{time.strftime('%Y-%m-%d', start)} {(start.tm_hour + 3) % 24:02d}" in listed("XXX-3", "9999-01-01")
    moment = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(BASE_MS / 1000 + 60))
    assert "v1" in listed("UTC0", moment)
    assert "v1" not in listed("XXX+3", "2000-01-01")
