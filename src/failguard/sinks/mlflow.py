"""MLflow: the report of a run where the user already looks for it.

Everything that talks to MLflow happens on the delivery thread with a client and a run id. The active run is
thread-local, so it is read on the training thread, and only if MLflow is already loaded there.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from failguard.core.log import logger
from failguard.core.redaction import redact_text
from failguard.errors import ConfigurationError
from failguard.report.run_report import RunReport
from failguard.sinks.mlflow_session import Session, Target, Unreachable, connect, probe, trouble_named

__all__ = ["MlflowSink"]

SEND_EVERY_S = 10.0  # bounds the calls a minute, whatever the step rate


class MlflowSink:
    """Writes reports to an MLflow run.

    The run is, in this order: ``run_id`` or ``MLFLOW_RUN_ID``; the run of the trainer's ``MLFlowLogger``; the active
    run; a run of failguard's own, in the store that MLflow itself would use. A run that failguard did not start gets
    only ``failguard.*`` tags, ``failguard/...`` and ``system/...`` metrics, the artifacts, and the note if it is empty.

    Args:
        experiment: Name of the experiment for a run of our own. ``None``: the guard's ``experiment``, else MLflow's.
        run_name: Name of a run of our own. ``None``: the guard's ``run_name``, else the record's id.
        run_id: An existing run to write to.
        tracking_uri: The store. ``None``: that of the run found, else the one MLflow itself would use.
        owned: The run is failguard's own, whatever is active: ``run_id``, else a new one. It gets params and is closed.

    Raises:
        ConfigurationError: An argument is not text.

    Attributes:
        location: Address of the run; for a store without a server, its id and the command that shows it.
    """

    name = "mlflow"
    background = True

    def __init__(
        self,
        experiment: str | None = None,
        run_name: str | None = None,
        run_id: str | None = None,
        tracking_uri: str | os.PathLike[str] | None = None,
        *,
        owned: bool = False,
    ) -> None:
        uri = os.fspath(tracking_uri) if tracking_uri is not None else None
        given = {"experiment": experiment, "run_name": run_name, "run_id": run_id, "tracking_uri": uri}
        for name, value in given.items():
            if value is not None and (not isinstance(value, str) or not value):
                raise ConfigurationError(f"MlflowSink({name}={value!r}) cannot be used: it takes text, or None.")
        self._given = Target(uri, run_id, experiment, run_name, owned)
        self._target = self._given
        self._session: Session | None = None
        self._trouble: str | None = None
        self._next_send_at = 0.0
        self._is_taken = False

    def __getstate__(self) -> dict[str, Any]:
        # A guard is copied and pickled with its sinks; an open store cannot be.
        return {**self.__dict__, "_session": None}

    @property
    def location(self) -> str | None:
        """Where the run can be looked at, once there is one."""
        return None if self._session is None else self._session.location

    @property
    def store(self) -> str | None:
        """Address of the store as far as it is known before connecting; ``None``: the one MLflow itself would use."""
        return self._session.uri if self._session is not None else self._target.tracking_uri

    @property
    def experiment(self) -> str | None:
        """Name of the experiment of a run of our own; ``None`` where the run, or its experiment's id, is given."""
        target = self._target
        if target.run_id is not None:
            return None
        return target.experiment or (None if os.environ.get("MLFLOW_EXPERIMENT_ID") else "Default")

    @property
    def taken(self) -> Session | None:
        """The session whose store has the whole of the finished run; ``None`` before that."""
        return self._session if self._is_taken else None

    def prepare(self, report: RunReport) -> None:
        """Find the run to write to. On the training thread; loads nothing and calls no server."""
        self._session, self._trouble, self._next_send_at, self._is_taken = None, None, 0.0, False
        self._target = _target(self._given, report)

    def start(self, report: RunReport) -> None:
        """Connect, and make the run if there is none."""
        session = self._connected(report)
        if session is not None:
            with trouble_named(session.uri):
                session.begin(report)

    def progress(self, report: RunReport) -> None:
        """Send the new completed blocks, at most every ten seconds."""
        if time.monotonic() < self._next_send_at:
            return
        session = self._connected(report)
        if session is not None:
            with trouble_named(session.uri):
                session.begin(report)
                session.send_metrics(report, final=False)
        self._next_send_at = time.monotonic() + SEND_EVERY_S

    def finish(self, report: RunReport) -> None:
        """Send the rest and close a run of our own.

        Raises:
            FailGuardError: The store did not take it; the message names it and the remedy.
        """
        session = self._connected(report)
        if session is None:
            raise Unreachable(self._trouble or "The MLflow store cannot be reached.")
        with trouble_named(session.uri):
            session.begin(report)
            session.end(report)
        self._is_taken = True

    def delivery_state(self) -> dict[str, Any]:
        """What ``failguard sync`` needs to go on."""
        target, session = self._target, self._session
        return {
            "tracking_uri": redact_text(session.uri if session else target.tracking_uri or "") or None,
            "run_id": session.run_id if session else target.run_id,
            "owned": session.owned if session else target.owned,
            "experiment": target.experiment,
            "run_name": target.run_name,
        }

    def _connected(self, report: RunReport) -> Session | None:
        """The session, if the server answers now. Said once when it does not; tried again next time."""
        try:
            if self._session is None:
                self._session = connect(self._target)
            else:
                probe(self._session.uri)
        except Unreachable as error:
            if self._trouble is None:
                logger.warning("failguard: %s Training goes on; it will be tried again.", error)
            self._trouble = str(error)
            return None
        return self._session


def _target(given: Target, report: RunReport) -> Target:
    """The resolution order of the run, with what only the training thread can see."""
    run, environment = report.run, os.environ
    experiment = given.experiment or run.experiment
    run_name = given.run_name or run.run_name
    run_id = given.run_id or environment.get("MLFLOW_RUN_ID")
    mlflow = sys.modules.get("mlflow")
    uri = given.tracking_uri
    if uri is None:  # read now: by the time the delivery thread asks, the next run may have changed it
        if mlflow is not None and hasattr(mlflow, "get_tracking_uri"):
            uri = mlflow.get_tracking_uri()
        else:
            uri = environment.get("MLFLOW_TRACKING_URI") or None
    if given.owned:
        return Target(uri, given.run_id, experiment, run_name, owned=True)
    if run_id:
        return Target(uri, run_id, experiment, run_name)
    if run.mlflow_run_id:
        return Target(run.mlflow_tracking_uri or uri, run.mlflow_run_id, experiment, run_name)
    active = mlflow.active_run() if mlflow is not None and hasattr(mlflow, "active_run") else None
    if active is not None:
        return Target(uri, active.info.run_id, experiment, run_name)
    return Target(uri, None, experiment or environment.get("MLFLOW_EXPERIMENT_NAME"), run_name)
