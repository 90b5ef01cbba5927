"""The recorder and the MLflow sink of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from threading import Lock, Thread
from time import perf_counter
from typing import Any, ClassVar

from failguard.accounting import Accounting
from failguard.core.containment import Containment
from failguard.core.facts import Facts
from failguard.core.finding import Status
from failguard.core.history import History
from failguard.core.log import logger
from failguard.experiment.guards import merged
from failguard.experiment.returned import Points
from failguard.recorder import Recorder
from failguard.report.run_report import Progress, RunReport
from failguard.resources import RunWatch
from failguard.settings import Settings
from failguard.sinks.delivery import Delivery, sinks_for
from failguard.sinks.enclosing import Deliverer
from failguard.sinks.mlflow import MlflowSink
from failguard.sinks.mlflow_session import Session, trouble_named

__all__ = ["ExperimentRecorder", "ExperimentSink"]

FINISH_WAIT_S = 60.0  # the caller looks into MLflow next; training is over
OPEN_WAIT_S = 15.0  # for a server that is slow to make the run


class ExperimentRecorder(Recorder):
    """Records an experiment; its report takes in those of the guards that ran inside.

    Args:
        settings: Names, configuration, where reports go.
        facts: What the configuration says of the run.
        guards: Gives the newest reports of the guards.

    Attributes:
        metrics: What was measured so far.
        learnings: See :attr:`RunReport.learnings`.
        measured: What resources were taken.
    """

    is_experiment: ClassVar[bool] = True

    def __init__(self, settings: Settings, facts: Facts, guards: Callable[[], Sequence[RunReport]]) -> None:
        self.history = History(monitor=settings.monitor, facts=facts)
        self.containment = Containment()
        resources = RunWatch(False, self.history)  # resource_monitor samples
        accounting = Accounting(settings.overhead_budget)
        super().__init__(settings, "python", self.history, self.containment, accounting, resources)
        self._guards = guards
        self.metrics: dict[str, Points] = {}
        self.learnings: dict[str, Any] = {}
        self.measured: Mapping[str, Any] = {}

    def training_begins(self) -> None:
        """Time counts from here: making the run is no part of the training."""
        self._started_at = perf_counter()

    def report(self, status: Status, numbers: Progress) -> RunReport:
        """The report so far, or the final one, with what the guards say."""
        if self._final is not None:
            return self._final
        own = super().report(status, numbers)
        own.metrics = {name: list(points) for name, points in list(self.metrics.items())}
        own.learnings = dict(self.learnings)
        return merged(own, self._guards())

    def _resource_summary(self) -> dict[str, Any]:
        return dict(self.measured)

    def _deliverer(self) -> Deliverer:
        """Its own, also where it is nested in another experiment: that one only sees what ``train_func`` returns."""
        sinks = sinks_for(self._settings)
        return Delivery([*sinks, *self._remembering(sinks)], self._containment, wait_s=FINISH_WAIT_S)


class ExperimentSink(MlflowSink):
    """Makes the run before training, so that ``train_func`` can log to it, and closes it afterwards.

    Args:
        experiment: Name of the MLflow experiment.
        run_name: Name of the run.
        tracking_uri: The store; ``None``: the one MLflow itself would use.
        on_run: Called with the open session once there is a run.
    """

    def __init__(
        self, experiment: str, run_name: str, tracking_uri: str | None, on_run: Callable[[Session], None]
    ) -> None:
        super().__init__(experiment=experiment, run_name=run_name, tracking_uri=tracking_uri, owned=True)
        self._on_run = on_run
        self._one_at_a_time = Lock()  # a server that is slow to make the run must not make two

    def prepare(self, report: RunReport) -> None:
        """Make the run. A server that does not answer, or not soon, costs the training nothing but that wait."""
        super().prepare(report)
        if not (self._target.tracking_uri or "").lower().startswith(("http:", "https:")):
            self._open(report)
            return
        raised: list[Exception] = []

        def work() -> None:
            try:
                self._open(report)
            except Exception as error:  # noqa: BLE001 - raised on the thread that waits
                raised.append(error)

        thread = Thread(target=work, name="failguard experiment", daemon=True)
        thread.start()
        thread.join(OPEN_WAIT_S)
        if raised:
            raise raised[0]
        if thread.is_alive():
            logger.warning(
                "failguard: the MLflow server has not made the run within %g s. Training starts; it is recorded later.",
                OPEN_WAIT_S,
            )

    def start(self, report: RunReport) -> None:
        """Make the run, if there is none yet."""
        with self._one_at_a_time:
            super().start(report)

    def progress(self, report: RunReport) -> None:
        """Send what is new."""
        with self._one_at_a_time:
            super().progress(report)

    def finish(self, report: RunReport) -> None:
        """Send the rest and close the run."""
        with self._one_at_a_time:
            super().finish(report)
        if self._session is not None:  # made only now, where the server was away at the start
            self._on_run(self._session)

    def _open(self, report: RunReport) -> None:
        with self._one_at_a_time:
            session = self._connected(report)
            if session is not None:
                with trouble_named(session.uri):
                    session.begin(report)
        if session is not None:
            self._on_run(session)
