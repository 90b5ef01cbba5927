"""The experiment's MLflow run as the active one, so that what ``train_func`` logs goes there too."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from failguard.core.log import logger
from failguard.errors import FailGuardError
from failguard.sinks.mlflow_session import probe

__all__ = ["active_run", "enclosing_run_id"]


def enclosing_run_id(tracking_uri: str | None) -> str | None:
    """Id of the run that is active on this thread, if it is in the same store. Loads nothing and calls no server.

    Args:
        tracking_uri: The store of the experiment; ``None``: the one that MLflow uses.
    """
    mlflow = sys.modules.get("mlflow")
    if mlflow is None or not hasattr(mlflow, "active_run"):
        return None
    active = mlflow.active_run()
    if active is None or (tracking_uri is not None and tracking_uri != mlflow.get_tracking_uri()):
        return None
    return str(active.info.run_id)


@contextmanager
def active_run(client: Any, run_id: str, uri: str, *, has_failed: Callable[[], bool]) -> Iterator[None]:
    """Make a run the active one of this thread for a block, and leave everything as it was found.

    ``mlflow.start_run`` would refuse a run of another experiment than that of ``mlflow.set_experiment``, and
    ``mlflow.end_run`` waits for minutes where the server has died meanwhile; so the run is put on MLflow's stack, and
    taken off, without a call. Runs that the block left open are ended.

    Args:
        client: An ``MlflowClient`` of the store.
        run_id: The run.
        uri: The store. Where MLflow itself uses another one, it uses this one for the block; in every thread, as
            MLflow knows only one.
        has_failed: Tells at the end whether runs that are still open have failed.
    """
    import mlflow
    from mlflow.tracking import fluent

    stacks = getattr(fluent, "_active_run_stack", None)
    if stacks is None:
        logger.debug("failguard: this MLflow keeps its active run elsewhere; the experiment's run is not active")
        yield
        return
    run = mlflow.ActiveRun(client.get_run(run_id))
    depth = len(stacks.get())
    with _tracking_uri(uri):
        stacks.get().append(run)
        try:
            yield
        finally:
            stack = stacks.get()
            left_open = [r.info.run_id for r in stack[depth:] if r.info.run_id != run_id]
            del stack[depth:]
            _end(client, left_open, "FAILED" if has_failed() else "FINISHED", uri)


def _end(client: Any, run_ids: list[str], status: str, uri: str) -> None:
    if not run_ids:
        return
    try:
        probe(uri)
        for run_id in run_ids:
            client.set_terminated(run_id, status)
    except FailGuardError:
        logger.warning("failguard: the MLflow runs %s stay open: their server does not answer.", ", ".join(run_ids))
    except Exception as error:  # noqa: BLE001 - runs of the user's in a store of their own
        logger.warning("failguard: the MLflow runs %s stay open: %s", ", ".join(run_ids), error)


@contextmanager
def _tracking_uri(uri: str) -> Iterator[None]:
    import mlflow
    from mlflow.tracking._tracking_service import utils

    if mlflow.get_tracking_uri() == uri:
        yield
        return
    before = getattr(utils, "_tracking_uri", None)
    environment = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        if mlflow.get_tracking_uri() == uri:  # else the block has chosen another one
            mlflow.set_tracking_uri(before)
            if environment is not None:
                os.environ["MLFLOW_TRACKING_URI"] = environment
