"""The store of the registry's benchmark is one that MLflow itself reads, run by run as the index has it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.registry_store import make_store

from failguard.runs import Registry, RunIndex
from failguard.runs.refresh import refresh_searched
from failguard.runs.store import MlflowReader


def test_mlflow_reads_what_was_put_in_directly(tmp_path: Path) -> None:
    uri = make_store(tmp_path / "mlflow.db", 40)
    registry = Registry(uri, RunIndex(tmp_path / "index.db"))
    direct = registry.list()
    other = RunIndex(tmp_path / "other.db")
    assert refresh_searched(other, MlflowReader(uri)) == 40
    assert direct == other.entries()
    failed = [entry for entry in direct if entry.failed]
    assert 0 < len(failed) < 40
    assert all(entry.finding and entry.cause and entry.fingerprint for entry in failed)
    assert {entry.line for entry in direct} == {f"{e.experiment}-0" for e in direct}
