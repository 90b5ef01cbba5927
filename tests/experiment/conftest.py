"""Real sqlite stores, as the tests of MLflow have them."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mlflow")

_of_mlflow = runpy.run_path(str(Path(__file__).parents[1] / "integrations" / "mlflow" / "conftest.py"))
_names = ("_empty_database", "store", "dead_server", "hung_server", "server")
_empty_database, store, dead_server, hung_server, server = (_of_mlflow[name] for name in _names)


@pytest.fixture(autouse=True)
def _mlflow_as_it_was() -> Any:
    """No test leaves an active run, a store or an experiment of its own behind."""
    import mlflow

    yield
    assert mlflow.active_run() is None
    mlflow.set_tracking_uri(None)
    mlflow.tracking.fluent._active_experiment_id = None


@pytest.fixture
def client(store: str) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(store)
