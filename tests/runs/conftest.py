"""An MLflow store of its own for each test: a copy of an empty one, as making one takes seconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from failguard.report.outcome import Outcome
from failguard.runs.entry import Note, RunEntry


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path = tmp_path_factory.mktemp("empty_store") / "mlflow.db"
    SqlAlchemyStore(f"sqlite:///{path}", "./mlruns").engine.dispose()
    return path


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))


@pytest.fixture
def client(database: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{database}")


@pytest.fixture
def add(client: Any) -> Callable[..., str]:
    return make_adder(client)


def make_adder(client: Any) -> Callable[..., str]:
    """A function that adds a run to a store."""
    from mlflow.entities import Metric, Param

    def add(
        name: str = "run",
        *,
        experiment: str = "churn",
        status: str | None = "FINISHED",
        start_ms: int | None = None,
        tags: dict[str, str] | None = None,
        params: dict[str, Any] | None = None,
        metrics: dict[str, float] | None = None,
    ) -> str:
        found = client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(experiment)
        run = client.create_run(experiment_id, start_time=start_ms, run_name=name, tags=tags)
        client.log_batch(
            run.info.run_id,
            metrics=[Metric(k, v, (start_ms or run.info.start_time) + 1, 0) for k, v in (metrics or {}).items()],
            params=[Param(k, str(v)) for k, v in (params or {}).items()],
        )
        if status is not None:
            client.set_terminated(run.info.run_id, status, end_time=start_ms and start_ms + 60_000)
        return str(run.info.run_id)

    return add


# Runs by hand: hours from a fixed Monday.

MONDAY = datetime(2026, 1, 5, tzinfo=UTC)

_OUTCOMES = {"s": Outcome.SUCCESS, "f": Outcome.FAILURE, "p": Outcome.PARTIAL, "u": None, "r": None}
_STATUS = {"s": "completed", "f": "stopped", "p": "completed", "u": "completed", "r": "running"}


def _run(run_id: str, kind: str, at_h: float, length_h: float = 1.0, **values: Any) -> RunEntry:
    start = MONDAY + timedelta(hours=at_h)
    defaults: dict[str, Any] = {
        "run_id": run_id,
        "experiment_id": "1",
        "experiment": "churn",
        "name": run_id,
        "status": _STATUS[kind],
        "outcome": _OUTCOMES[kind],
        "started_at": start,
        "ended_at": None if kind == "r" else start + timedelta(hours=length_h),
        "watched": kind != "u",
        "line": "churn",
    }
    return RunEntry(**{**defaults, **values})


def _lesson(text: str, number: int = 1, **values: Any) -> Note:
    defaults: dict[str, Any] = {"kind": "lesson", "author": "ada", "written_at": MONDAY + timedelta(hours=number)}
    return Note(id=f"n{number}", text=text, **{**defaults, **values})


@pytest.fixture(scope="session")
def run() -> Callable[..., RunEntry]:
    """``run(id, kind, at_h, length_h)``: kind is s(uccess), f(ailure), p(artial), u(nknown) or r(unning)."""
    return _run


@pytest.fixture(scope="session")
def lesson() -> Callable[..., Note]:
    """``lesson(text, number)``."""
    return _lesson
