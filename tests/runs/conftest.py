"""An MLflow store of its own for each test: a copy of an empty one, as making one takes seconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


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
