"""The registry over real servers: one over sqlite, one over PostgreSQL."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from failguard.errors import FailGuardError, InputError
from failguard.runs import Registry, RunIndex
from failguard.runs.refresh import refresh_searched
from failguard.runs.store import MlflowReader

pytestmark = pytest.mark.slow
make_adder = runpy.run_path(str(Path(__file__).parents[2] / "runs" / "conftest.py"))["make_adder"]
BASE_MS = 1_780_000_000_000
TAGS = {
    "failguard.status": "stopped",
    "failguard.outcome": "failure",
    "failguard.finding": "loss.divergence",
    "failguard.cause": "learning_rate_too_high",
    "failguard.config": json.dumps({"lr": 0.3, "größe": [1, 2]}),
    "team": "vision",
}


@pytest.fixture
def client(server_over: Any) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=server_over.uri)


@pytest.fixture
def registry(server_over: Any, tmp_path: Path) -> Registry:
    return Registry(server_over.uri, RunIndex(tmp_path / "index.db"))


@pytest.fixture
def add(client: Any) -> Callable[..., str]:
    """Adds runs to an experiment of the test's own: the server serves the whole module."""
    return make_adder(client)


def test_every_edit_is_seen(registry: Registry, client: Any, add: Callable[..., str], server_over: Any) -> None:
    first = add("first", experiment="edits", tags=TAGS, params={"width": 64}, metrics={"val_loss": float("nan")})
    running = add("running", experiment="edits", status=None, metrics={"loss": float("inf")})
    other = add("other", experiment="edits 2")
    names = {e.name for e in registry.list(experiment="edits")}
    assert names == {"first", "running"}
    (found,) = registry.list(experiment="edits", finding="loss.divergence", config=["lr>=0.1"])
    assert (found.run_id, found.config["größe"], found.config["width"]) == (first, [1, 2], 64)
    client.set_terminated(running, "KILLED")
    client.set_tag(first, "team", "speech")
    client.delete_run(other)
    late = add("late", experiment="edits", start_ms=BASE_MS)
    client.rename_experiment(client.get_experiment_by_name("edits").experiment_id, "edited")
    changed = {e.run_id: e for e in registry.list(experiment="edited")}
    assert changed.keys() == {first, running, late}
    assert (changed[running].status, changed[first].tags["team"]) == ("interrupted", "speech")
    with pytest.raises(InputError, match="no experiment"):
        registry.list(experiment="edits 2")
    client.restore_run(other)
    assert [e.name for e in registry.list(experiment="edits 2")] == ["other"]
    client.delete_experiment(client.get_experiment_by_name("edited").experiment_id)
    assert {e.experiment for e in registry.list()} & {"edits", "edited"} == set()


def test_all_readers_say_the_same(
    registry: Registry, add: Callable[..., str], server_over: Any, tmp_path: Path
) -> None:
    """The REST interface, MLflow's client over it, and MLflow's client on the database itself."""
    metrics = {"val_loss": float("nan"), "loss": float("-inf"), "failguard/run/used_h": 0.25}
    add("whole", experiment="readers", tags=TAGS, metrics=metrics, params={"hypothesis": "wider", "amp": True})
    add("bare", experiment="readers", status="FAILED")

    def read(uri: str) -> dict[str, Any]:
        index = RunIndex(tmp_path / f"{abs(hash(uri))}.db")
        refresh_searched(index, MlflowReader(uri))
        return {e.name: e.to_dict() for e in index.entries(experiment="readers")}

    rest = {e.name: e.to_dict() for e in registry.list(experiment="readers")}
    assert rest["whole"]["used_h"] == 0.25
    assert read(server_over.uri) == rest
    assert read(server_over.backend) == rest


def test_notes_and_one_run(registry: Registry, client: Any, add: Callable[..., str]) -> None:
    run_id = add("noted", experiment="notes")
    note = registry.add_note("noted", "lesson", "wärmer ist besser", author="ada")
    assert registry.get(run_id[:10]).notes == (note,)
    client.delete_run(run_id)
    with pytest.raises(InputError, match="no run"):
        registry.get(run_id)


def test_more_runs_than_a_page(registry: Registry, add: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("failguard.runs.store.PAGE", 3)
    monkeypatch.setattr("failguard.runs.refresh.RECENT", 3)
    monkeypatch.setattr("failguard.runs.refresh.TURN", 3)
    registry.refresh()
    ids = {add(f"run-{i}", experiment="pages") for i in range(8)}
    assert registry.refresh() == 8
    assert {e.run_id for e in registry.list(experiment="pages")} == ids
    assert registry.refresh(full=True) == 0


def test_the_command_line_does_not_load_mlflow(add: Callable[..., str], server_over: Any, tmp_path: Path) -> None:
    add("listed", experiment="cli", tags=TAGS)
    script = (
        "import sys\nfrom failguard.cli.app import app\n"
        "try: app(['runs', 'list', '-e', 'cli', '--json'])\n"
        "finally: assert 'mlflow' not in sys.modules\n"
    )
    environment = {**os.environ, "MLFLOW_TRACKING_URI": server_over.uri, "FAILGUARD_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert [row["name"] for row in json.loads(done.stdout)] == ["listed"]


def test_a_server_that_dies_and_comes_back(registry: Registry, add: Callable[..., str], server_over: Any) -> None:
    add("kept", experiment="death")
    registry.refresh()
    server_over.kill()
    try:
        assert [e.name for e in registry.list(experiment="death")] == ["kept"]
        assert "does not answer" in registry.trouble
        with pytest.raises(FailGuardError, match="does not answer"):
            registry.refresh()
        with pytest.raises(FailGuardError, match="does not answer"):
            registry.add_note("kept", "lesson", "x")
    finally:
        server_over.start()
    registry.list()
    assert registry.trouble == ""
