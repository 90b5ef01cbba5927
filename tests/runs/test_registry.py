from __future__ import annotations

import dataclasses
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from failguard.errors import FailGuardError, InputError
from failguard.report.outcome import Outcome
from failguard.runs import Registry, RunIndex
from failguard.runs.refresh import STAMP, refresh_searched
from failguard.runs.store import MlflowReader

Add = Callable[..., str]
HOUR_MS = 3_600_000
BASE_MS = 1_780_000_000_000


@pytest.fixture
def registry(database: Path, tmp_path: Path) -> Registry:
    return Registry(f"sqlite:///{database}", RunIndex(tmp_path / "index.db"))


def names(registry: Registry, **filters: Any) -> list[str]:
    return [e.name for e in registry.list(**filters)]


def test_a_first_look_and_a_second(registry: Registry, add: Add) -> None:
    add("first", start_ms=BASE_MS, params={"lr": 0.1}, metrics={"val_loss": 2.0}, tags={"mlflow.user": "ada"})
    add("second", start_ms=BASE_MS + HOUR_MS, experiment="speech")
    assert registry.refresh() == 2
    assert registry.refresh() == 0
    assert names(registry) == ["second", "first"]
    (first,) = registry.list(experiment="churn")
    assert (first.config, first.metrics, first.user, first.status) == (
        {"lr": 0.1}, {"val_loss": 2.0}, "ada", "completed",
    )  # fmt: skip
    assert registry.experiments() == ("churn", "speech")


def test_both_readers_say_the_same(registry: Registry, add: Add, tmp_path: Path) -> None:
    tags = {
        "failguard.status": "stopped", "failguard.outcome": "failure", "failguard.finding": "loss.divergence",
        "failguard.config": json.dumps({"lr": 0.3}), "team": "vision",
    }  # fmt: skip
    metrics = {"val_loss": float("nan"), "loss": float("inf"), "failguard/run/used_h": 0.5}
    add("watched", tags=tags, metrics=metrics, params={"width": 512, "hypothesis": "wider"})
    add("plain", status="FAILED")
    add("running", status=None)
    direct = {e.name: e.to_dict() for e in registry.list()}
    other = RunIndex(tmp_path / "other.db")
    assert refresh_searched(other, MlflowReader(registry.tracking_uri)) == 3
    assert {e.name: e.to_dict() for e in other.entries()} == direct
    assert direct["watched"]["heard_at"] is not None


def test_every_run_is_read_again_when_asked(registry: Registry, add: Add) -> None:
    add("run")
    registry.refresh()
    (entry,) = registry.index.entries()
    signatures = registry.index.signatures()
    wrong = dataclasses.replace(entry, name="wrong")
    registry.index.apply([(wrong, signatures[entry.run_id])])
    assert registry.refresh() == 0
    assert registry.refresh(full=True) == 0  # the store has not changed
    assert names(registry) == ["run"]


EDITS = [
    "new", "ended", "tag added", "tag edited", "tag deleted", "metric", "renamed run", "deleted", "restored",
    "deleted experiment", "restored experiment", "renamed experiment", "status by hand", "synced with an old date",
]  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("way", ["direct", "searched", "searched again"])
def test_the_index_agrees_with_the_store_after(
    edit: str, way: str, database: Path, client: Any, add: Add, tmp_path: Path
) -> None:
    """Directly at once; by searching at once for all that is recent, and for the rest when its turn has come."""
    index = RunIndex(tmp_path / "index.db")
    registry = Registry(f"sqlite:///{database}", index)
    reader = MlflowReader(registry.tracking_uri)

    def refresh() -> None:
        if way == "direct":
            registry.refresh()
        else:
            refresh_searched(index, reader, full=way == "searched again")

    old = add("old", start_ms=BASE_MS, tags={"team": "vision"})
    add("other", start_ms=BASE_MS + 1, experiment="speech")
    gone = add("gone", start_ms=BASE_MS + 2)
    client.delete_run(gone)
    running = add("running", start_ms=BASE_MS + 3, status=None)
    speech = client.get_experiment_by_name("speech").experiment_id
    if edit == "restored experiment":
        client.delete_experiment(speech)
    refresh()
    before = {e.run_id: e for e in index.entries()}
    if edit == "new":
        add("new")
    elif edit == "ended":
        client.set_terminated(running, "KILLED")
    elif edit in ("tag added", "tag edited"):
        client.set_tag(old, "team" if edit == "tag edited" else "more", "speech")
    elif edit == "tag deleted":
        client.delete_tag(old, "team")
    elif edit == "metric":
        client.log_metric(old, "late", 1.0)
    elif edit == "renamed run":
        client.update_run(old, name="better name")
    elif edit == "deleted":
        client.delete_run(old)
    elif edit == "restored":
        client.restore_run(gone)
    elif edit == "deleted experiment":
        client.delete_experiment(speech)
    elif edit == "restored experiment":
        client.restore_experiment(speech)
    elif edit == "renamed experiment":
        client.rename_experiment(speech, "talk")
    elif edit == "status by hand":
        client.update_run(old, status="FAILED")
    else:
        add("synced", start_ms=BASE_MS - HOUR_MS)
    refresh()
    after = {e.run_id: e for e in index.entries()}
    assert after != before
    fresh = RunIndex(tmp_path / "fresh.db")
    refresh_searched(fresh, reader)
    assert after == {e.run_id: e for e in fresh.entries()}


def test_what_is_old_is_seen_when_its_turn_has_come(
    database: Path, client: Any, add: Add, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With pages of two runs: one refresh more for each page of the rest."""
    monkeypatch.setattr("failguard.runs.refresh.RECENT", 2)
    monkeypatch.setattr("failguard.runs.refresh.TURN", 2)
    monkeypatch.setattr("failguard.runs.refresh.OVERLAP", timedelta())
    index, reader = RunIndex(tmp_path / "index.db"), MlflowReader(f"sqlite:///{database}")
    ids = [add(f"run-{i}", start_ms=BASE_MS + i * HOUR_MS) for i in range(9)]
    same = [add(f"same-{i}", start_ms=BASE_MS - HOUR_MS) for i in range(5)]  # more than a page with one start
    assert refresh_searched(index, reader) == 14
    client.set_tag(ids[0], "team", "vision")
    client.set_tag(same[-1], "team", "vision")
    client.delete_run(ids[1])
    add("synced", start_ms=BASE_MS + 1)
    counts = [refresh_searched(index, reader, limit_s=0.0) for _ in range(10)]
    assert counts[0] == 0
    assert sum(counts) == 4
    fresh = RunIndex(tmp_path / "fresh.db")
    refresh_searched(fresh, reader)
    assert index.entries() == fresh.entries()


def test_a_store_that_was_made_anew(registry: Registry, database: Path, add: Add, empty_database: Path) -> None:
    add("before")
    assert names(registry) == ["before"]
    database.write_bytes(empty_database.read_bytes())
    assert names(registry) == []
    database.unlink()
    assert names(registry) == []


def test_a_crash_in_the_middle_of_a_refresh(
    registry: Registry, add: Add, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("failguard.runs.store_sqlite.PAGE", 2)
    ids = [add(f"run-{i}", start_ms=BASE_MS + i) for i in range(5)]
    registry.refresh()
    for run_id in ids[:4]:
        client.set_tag(run_id, "team", "vision")
    client.delete_run(ids[4])
    real = registry.index.apply
    calls = []

    def dies(*args: Any, **kwargs: Any) -> int:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(registry.index, "apply", dies)
    with pytest.raises(KeyboardInterrupt):
        registry.refresh()
    monkeypatch.setattr(registry.index, "apply", real)
    assert registry.refresh() == 3  # two were taken in before it; two and the deletion are left
    assert [e.tags.get("team") for e in registry.list()] == ["vision"] * 4


def test_an_older_reading_does_not_stay(registry: Registry, add: Add, client: Any) -> None:
    """Another process writes what it read earlier, while we refresh."""
    run_id = add("run")
    registry.refresh()
    (older,) = registry.index.entries()
    client.set_tag(run_id, "team", "vision")
    registry.refresh()
    RunIndex(registry.index.path).apply([(older, b"of an older state")], facts={STAMP: ""})
    assert [e.tags.get("team") for e in registry.list()] == ["vision"]


@pytest.mark.slow
def test_two_processes_refresh_while_a_third_writes(registry: Registry, add: Add) -> None:
    for i in range(5):
        add(f"run-{i}")
    script = (
        "import sys\nfrom pathlib import Path\nfrom failguard.runs import Registry, RunIndex\n"
        "r = Registry(sys.argv[1], RunIndex(Path(sys.argv[2])))\n"
        "for _ in range(60): r.refresh()\n"
        "assert 'mlflow' not in sys.modules\n"
    )
    command = [sys.executable, "-c", script, registry.tracking_uri, str(registry.index.path)]
    readers = [subprocess.Popen(command) for _ in range(2)]
    for i in range(5, 30):
        add(f"run-{i}")
    assert [reader.wait() for reader in readers] == [0, 0]
    assert sorted(names(registry)) == sorted(f"run-{i}" for i in range(30))


def test_filters(registry: Registry, add: Add) -> None:
    stopped = {"failguard.status": "stopped", "failguard.outcome": "failure", "failguard.finding": "loss.divergence"}
    add("old", start_ms=BASE_MS, params={"lr": 0.3, "optimizer": "SGD", "amp": True}, tags=stopped)
    add("new", params={"lr": 0.01, "optimizer": "adam"})
    add("none", tags={"failguard.setup": json.dumps({"optimizer": "Adam"})})
    assert names(registry, config={"lr": 0.3}) == names(registry, config=["lr>=0.1"]) == ["old"]
    assert names(registry, config=["lr<0.1", "optimizer=ADAM"]) == ["new"]
    assert set(names(registry, config={"optimizer": "adam"})) == {"new", "none"}
    assert names(registry, config=["amp=true"]) == names(registry, config={"amp": True}) == ["old"]
    assert names(registry, config=["lr!=0.3"]) == ["new"]
    assert len(names(registry, config={"optimizer": "adam"}, limit=1)) == 1
    assert names(registry, status="stopped", outcome="failure", finding="loss.divergence") == ["old"]
    assert set(names(registry, since="1h")) == {"new", "none"}
    day = datetime.fromtimestamp(BASE_MS / 1000)
    assert names(registry, until=day.date().isoformat()) == ["old"]
    assert names(registry, until=day) == []
    assert names(registry, since=day, until=day + timedelta(seconds=1)) == ["old"]
    assert names(registry, cause="learning_rate_too_high") == []


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"experiment": "chrun"}, "churn"),
        ({"experiment": "xyz"}, "churn, speech"),
        ({"finding": "loss.diverge"}, "loss.divergence"),
        ({"cause": "learning_rate"}, "learning_rate_too_high"),
        ({"status": "done"}, "completed"),
        ({"outcome": "good"}, "success"),
        ({"since": "soon"}, "7d"),
        ({"since": "99999999999w"}, "7d"),
        ({"config": ["lr"]}, "lr=0.1"),
        ({"config": ["lr>fast"]}, "takes a number"),
        ({"limit": -1}, "limit"),
    ],
)
def test_a_filter_that_cannot_be_used(registry: Registry, add: Add, filters: dict[str, Any], words: str) -> None:
    add()
    add(experiment="speech")
    with pytest.raises(InputError, match=words):
        registry.list(**filters)


def test_a_run_by_its_id_its_beginning_or_its_name(registry: Registry, add: Add, client: Any) -> None:
    run_id = add("wider")
    twice = [add("twice"), add("twice")]
    assert registry.get(run_id).name == registry.get(run_id[:10]).name == registry.get("wider").name == "wider"
    with pytest.raises(InputError, match=twice[0]):
        registry.get("twice")
    with pytest.raises(InputError, match=r"Near ones are wider"):
        registry.get("wilder")
    with pytest.raises(InputError, match="No run is named"):
        registry.get(" ")
    with pytest.raises(InputError, match="no run"):
        registry.get("f" * 32)
    client.delete_run(run_id)
    with pytest.raises(InputError, match="no run"):
        registry.get(run_id)


def test_notes(registry: Registry, add: Add) -> None:
    run_id = add("wider")
    first = registry.add_note(run_id, "lesson", " warm-up is useless ", author="ada")
    second = registry.add_note("wider", "lesson", "warm-up helps", replaces=first.id, author="alan")
    registry.add_note(run_id[:8], "next_step", "try 0.01")
    entry = registry.get(run_id)
    assert (entry.lessons, entry.next_steps) == (("warm-up helps",), ("try 0.01",))
    assert [(n.text, n.author, n.replaces) for n in entry.notes[:2]] == [
        ("warm-up is useless", "ada", None),
        ("warm-up helps", "alan", first.id),
    ]
    assert entry.notes[2].author
    registry.add_note(run_id, "lesson", "", replaces=second.id)
    assert registry.get(run_id).lessons == ()
    for kind, text, replaces, words in [
        ("wish", "x", None, "lesson, next_step"),
        ("lesson", " ", None, "empty"),
        ("lesson", "x", "nobody", "no one note"),
        ("next_step", "x", second.id, "cannot be replaced by a next_step"),
        ("lesson", "x", first.id, "replaced already"),
        ("lesson", "x" * 8_000, None, "too long"),
    ]:
        with pytest.raises(InputError, match=words):
            registry.add_note(run_id, kind, text, replaces=replaces)
    assert len(registry.get(run_id).notes) == 4


def test_a_store_that_cannot_be_read_is_answered_for_by_the_index(registry: Registry, add: Add, database: Path) -> None:
    add("known")
    registry.list()
    database.write_text("no database")
    assert names(registry) == ["known"]
    assert "What follows is what was known" in registry.trouble
    assert registry.get("known").name == "known"
    with pytest.raises(FailGuardError, match="no MLflow database"):
        registry.refresh()
    with pytest.raises(FailGuardError, match="no MLflow database"):
        Registry(registry.tracking_uri, RunIndex(database.parent / "new.db")).list()


def test_a_server_that_is_dead(tmp_path: Path) -> None:
    registry = Registry("http://ada:secret@127.0.0.1:9", RunIndex(tmp_path / "index.db"))
    began = time.monotonic()
    with pytest.raises(FailGuardError, match="does not answer") as caught:
        registry.list()
    assert "secret" not in str(caught.value)
    assert time.monotonic() - began < 30
    with pytest.raises(FailGuardError, match="does not answer"):
        registry.add_note("x", "lesson", "y")


def test_tables_of_another_shape_are_read_through_mlflow(registry: Registry, add: Add, database: Path) -> None:
    add("run")
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE latest_metrics ADD COLUMN more")
        connection.execute("ALTER TABLE tags RENAME COLUMN value TO text")
    with pytest.raises(FailGuardError):  # here MLflow cannot either; its word is what users see
        registry.refresh()


def test_half_written_runs(registry: Registry, add: Add, database: Path) -> None:
    add("whole")
    half = add("half", status=None, params={"lr": 1})
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE runs SET start_time = NULL, name = NULL WHERE run_uuid = ?", (half,))
        connection.execute("DELETE FROM tags WHERE run_uuid = ?", (half,))
    entry = registry.get(half)
    assert (entry.name, entry.status, entry.outcome, entry.config) == ("", "running", None, {"lr": 1})
    assert entry.started_at.timestamp() == 0
    assert [e.name for e in registry.list()] == ["whole", ""]


def test_a_run_left_running_is_no_success(registry: Registry, add: Add) -> None:
    add("killed", status=None, start_ms=BASE_MS, tags={"failguard.status": "running"}, metrics={"loss": 1.0})
    (entry,) = registry.list()
    assert (entry.status, entry.outcome) == ("running", None)
    assert entry.outcome is not Outcome.SUCCESS
    assert entry.heard_at is not None
    assert entry.heard_at.timestamp() == pytest.approx((BASE_MS + 1) / 1000)
