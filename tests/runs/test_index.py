from __future__ import annotations

import json
import math
import multiprocessing
import os
import pickle
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from failguard.errors import InputError
from failguard.report.outcome import Outcome
from failguard.runs.entry import Note, RunEntry
from failguard.runs.entry_text import entry_from_text, entry_text
from failguard.runs.index import RunIndex, cache_folder

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def entry(number: int, **changes: Any) -> RunEntry:
    values: dict[str, Any] = {
        "run_id": f"{number:032x}",
        "experiment_id": "1",
        "experiment": "churn",
        "name": f"run-{number}",
        "status": "completed",
        "started_at": START + timedelta(hours=number),
        "line": "churn",
    }
    return RunEntry(**{**values, **changes})


FULL = entry(
    7,
    status="stopped",
    ended_at=START + timedelta(hours=9, microseconds=123_000),
    outcome=Outcome.FAILURE,
    watched=True,
    finding="loss.divergence",
    findings=("gradient.exploding", "loss.divergence"),
    cause="learning_rate_too_high",
    fingerprint="0123",
    parent="b" * 32,
    user="ada",
    config={"lr": 0.3, "limit": math.inf, "layers": [1, {"a": None}], "flag": True, "name": "größer\n"},
    setup={"optimizer": "SGD"},
    metrics={"val_loss": 2.0, "low": -math.inf},
    used_h=0.0,
    steps=140,
    notes=(Note("n1", "lesson", "warm up", "ada", START),),
    tags={"team": "vision"},
    heard_at=START,
)


def test_an_entry_comes_back_as_it_was() -> None:
    assert entry_from_text(entry_text(FULL)) == FULL
    assert entry_from_text(entry_text(entry(1))) == entry(1)
    assert math.isnan(entry_from_text(entry_text(entry(1, metrics={"x": math.nan}))).metrics["x"])


def test_a_config_that_is_none_of_jsons_is_kept_as_text() -> None:
    odd: dict[str, Any] = {"array": np.arange(3), "call": print, "scalar": np.float64(0.5), "deep": {"a": {1: {2}}}}
    found = entry_from_text(entry_text(entry(1, config=odd))).config
    assert found["array"] == "[0 1 2]"
    assert found["scalar"] == 0.5
    assert "print" in found["call"]
    assert found["deep"] == {"a": {"1": [2]}}


def test_filters_and_order(tmp_path: Path) -> None:
    index = RunIndex(tmp_path / "runs.db")
    index.put([entry(1), FULL, entry(3, experiment="speech", experiment_id="2", line="v2", user="alan")])
    assert [e.name for e in index.entries()] == ["run-7", "run-3", "run-1"]
    assert [e.name for e in index.entries(limit=1)] == ["run-7"]
    assert index.entries(limit=0) == []

    def names(**filters: Any) -> list[str]:
        return [e.name for e in index.entries(**filters)]

    assert names(experiment="speech") == names(experiment="2") == ["run-3"]
    assert names(status="stopped") == names(outcome="failure") == names(outcome=Outcome.FAILURE) == ["run-7"]
    assert names(finding="loss.divergence") == names(finding="gradient.exploding") == ["run-7"]
    assert names(finding="loss") == names(finding="gradient.exploding loss.divergence x") == []
    assert names(cause="learning_rate_too_high") == names(fingerprint="0123") == names(user="ada") == ["run-7"]
    assert names(line="v2") == ["run-3"]
    assert names(since=START + timedelta(hours=3)) == ["run-7", "run-3"]
    assert names(until=START + timedelta(hours=3)) == ["run-1"]
    there = timezone(timedelta(hours=5))
    assert names(since=(START + timedelta(hours=3)).astimezone(there), until=START + timedelta(hours=4)) == ["run-3"]
    assert index.get(FULL.run_id) == FULL
    assert index.get("nobody") is None


def test_put_replaces_and_remove_forgets(tmp_path: Path) -> None:
    index = RunIndex(tmp_path / "runs.db")
    index.put([entry(1, status="running"), entry(2)])
    index.put([entry(1, status="failed")])
    index.remove([entry(2).run_id, "nobody"])
    assert [(e.name, e.status) for e in index.entries()] == [("run-1", "failed")]


def test_what_was_interrupted_leaves_nothing(tmp_path: Path) -> None:
    index = RunIndex(tmp_path / "runs.db")
    index.put([entry(1)])

    def ends() -> Any:
        yield entry(2), None
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.apply(ends(), removed=[entry(1).run_id])
    assert [e.name for e in index.entries()] == ["run-1"]


def test_facts_are_not_noted_where_another_wrote_meanwhile(tmp_path: Path) -> None:
    index = RunIndex(tmp_path / "runs.db")
    writes = index.writes
    index.apply([], facts={"stamp": "a"}, unless_written_since=writes)
    assert index.fact("stamp") == "a"
    writes = index.writes
    RunIndex(index.path).put([entry(1)])
    index.apply([], facts={"stamp": "b", "refreshed_at": "now"}, unless_written_since=writes)
    assert index.fact("stamp") == ""
    assert index.fact("refreshed_at") is None


@pytest.mark.parametrize("damage", ["text", "middle", "removed", "empty", "foreign"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    index = RunIndex(tmp_path / "runs.db")
    index.put(entry(i) for i in range(400))
    if damage == "text":
        index.path.write_text("no database " * 1_000)
    elif damage == "middle":
        raw = bytearray(index.path.read_bytes())
        raw[4_096:] = os.urandom(len(raw) - 4_096)
        index.path.write_bytes(raw)
    elif damage == "removed":
        index.path.unlink()
    elif damage == "empty":
        index.path.write_bytes(b"")
    else:
        index.path.unlink()
        with sqlite3.connect(index.path) as connection:
            connection.execute("CREATE TABLE other (a)")
    assert index.entries() == []
    index.put([entry(1)])
    assert [e.name for e in RunIndex(index.path).entries()] == ["run-1"]


def test_an_index_of_another_version_is_made_again(tmp_path: Path) -> None:
    index = RunIndex(tmp_path / "runs.db")
    index.put([entry(1)])
    with sqlite3.connect(index.path) as connection:
        connection.execute("PRAGMA user_version = 7")
        connection.execute("ALTER TABLE runs ADD COLUMN more")
    assert RunIndex(index.path).entries() == []
    index.put([entry(2)])
    assert [e.name for e in index.entries()] == ["run-2"]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="FAILGUARD_CACHE_DIR"):
        RunIndex(tmp_path / "file" / "runs.db")
    with pytest.raises(InputError, match="FAILGUARD_CACHE_DIR"):
        RunIndex(tmp_path)


def test_one_file_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILGUARD_CACHE_DIR", str(tmp_path / "cache"))
    here = RunIndex.for_store("sqlite:///mlflow.db")
    assert here.path == RunIndex.for_store(f"sqlite:///{tmp_path}/mlflow.db").path
    assert here.path.parent == tmp_path / "cache" / "runs"
    assert here.path != RunIndex.for_store("sqlite:///other.db").path
    server = RunIndex.for_store("https://ada:secret@Tracking.example/base/")
    assert server.path == RunIndex.for_store("https://ada:changed@tracking.example/base").path
    assert server.path != RunIndex.for_store("https://tracking.example/base").path
    assert "secret" not in str(server.path)
    assert pickle.loads(pickle.dumps(server)).path == server.path


def test_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAILGUARD_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setattr("sys.platform", "linux")
    assert cache_folder() == Path("/x/failguard")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert cache_folder() == Path("/home/ada/.cache/failguard")
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == Path("/home/ada/Library/Caches/failguard")


def test_many_threads_write_one_file(tmp_path: Path) -> None:
    index = RunIndex(tmp_path / "runs.db")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: index.put([entry(i)]), range(64)))
    assert len(index.entries()) == 64


@pytest.mark.slow
def test_many_processes_open_and_write_one_file(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        pool.starmap(_put_some, [(tmp_path / "runs.db", i) for i in range(4)])
    assert len(RunIndex(tmp_path / "runs.db").entries()) == 40


def _put_some(path: Path, number: int) -> None:
    for i in range(10):
        RunIndex(path).put([entry(10 * number + i)])


def test_entries_are_plain_json() -> None:
    assert json.loads(json.dumps(FULL.to_dict(), allow_nan=False))["heard_at"] == "2026-03-01T12:00:00+00:00"
