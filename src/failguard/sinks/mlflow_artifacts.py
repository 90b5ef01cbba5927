"""Texts, values and metrics of a result into one MLflow run, on request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from failguard.errors import FailGuardError

__all__ = ["log_to_run"]

_ALLOWED = frozenset("_-. :/")


def log_to_run(
    texts: Mapping[str, str],
    values: Mapping[str, Any],
    metrics: Mapping[str, float],
    run_id: str | None,
    tracking_uri: str | None,
) -> str:
    """Log to a run.

    Args:
        texts: By artifact path.
        values: JSON values by artifact path.
        metrics: By name; letters that MLflow does not take become ``_``.
        run_id: The run; ``None``: the active one.
        tracking_uri: The store; ``None``: the one MLflow itself would use.

    Returns:
        The run's id.

    Raises:
        FailGuardError: There is no active run, or MLflow refuses.
    """
    try:
        import mlflow
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise FailGuardError(f"MLflow cannot be imported ({error}): pip install failguard-ml") from error
    if run_id is None:
        active = mlflow.active_run()
        if active is None:
            raise FailGuardError("There is no active MLflow run. Give run_id=, or call it within mlflow.start_run().")
        run_id = str(active.info.run_id)
    try:
        client = MlflowClient(tracking_uri=tracking_uri)
        for path, text in texts.items():
            client.log_text(run_id, text, path)
        for path, value in values.items():
            client.log_dict(run_id, value, path)
        for name, number in metrics.items():
            client.log_metric(run_id, "".join(c if c.isalnum() or c in _ALLOWED else "_" for c in name)[:250], number)
    except MlflowException as error:
        raise FailGuardError(f"MLflow refused the result for run {run_id}: {error}") from error
    return run_id
