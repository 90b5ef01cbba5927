"""What the three FailGuard classes share: the keywords, one Guard a fit, contained and timed hooks."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from time import perf_counter
from typing import Any, ClassVar, Concatenate, Literal, ParamSpec, TypeVar

from failguard.core.containment import Containment, PartError
from failguard.core.data_checks import DataChecks
from failguard.core.finding import Status
from failguard.core.host import Host
from failguard.core.improvement import Mode
from failguard.core.log import logger
from failguard.core.run_info import RunInfo
from failguard.detectors.base import Detector
from failguard.errors import FailGuardError, TrainingFailure
from failguard.guard import Guard
from failguard.policy import Policy
from failguard.report.run_report import RunReport
from failguard.resources import ResourceLimits
from failguard.runs.memory_settings import FailureMemory
from failguard.settings import Settings
from failguard.sinks.base import Sink

__all__ = ["DEFAULT_MONITOR", "GuardCallback", "disabled", "hook"]


class _Default(str):
    """A default that can be told from the same word typed by the user."""


DEFAULT_MONITOR: str = _Default("val_loss")

Self = TypeVar("Self", bound="GuardCallback")
P = ParamSpec("P")


def disabled() -> bool:
    """Whether ``FAILGUARD_DISABLE`` turns every guard into a no-op."""
    return os.environ.get("FAILGUARD_DISABLE", "").strip().lower() not in ("", "0", "false", "no")


def hook(method: Callable[Concatenate[Self, P], None]) -> Callable[Concatenate[Self, P], None]:
    """Make a framework hook safe and accounted for.

    It does nothing while no guard is active. An error of failguard's own is contained and retires the hook;
    ``TrainingFailure`` passes through.
    """
    name = method.__name__

    @wraps(method)
    def contained(self: Self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        guard = self._guard
        if guard is None:
            return
        accounting = guard.accounting
        counted_s = accounting.counted_s
        started = perf_counter()
        try:
            if name not in self._retired_hooks:
                method(self, *args, **kwargs)
        except TrainingFailure:
            raise
        except Exception as error:  # noqa: BLE001 - the whole point of containment
            self._retired_hooks.add(name)
            guard.containment.record(f"hook {name}", error)
        finally:
            accounting.add(name, perf_counter() - started - (accounting.counted_s - counted_s))

    return contained


class GuardCallback:
    """Base of the three FailGuard classes. The keywords are the same in every framework.

    Args:
        monitor: The metric that early stopping and the overfitting check look at, under the name it is logged with.
        mode: ``"min"`` when lower is better, ``"max"`` when higher is.
        patience: Validated epochs without improvement before early stopping; ``None``: no early stopping.
        min_delta: The least change that counts as improvement, in the metric's unit.
        restore_best_weights: Put the best epoch's weights back after an early stop or an overfitting stop. ``None``: on
            when ``patience`` is set or the policy stops on overfitting. Holds one copy of the weights in host memory,
            refused with a remark if it exceeds 10 % of what is free.
        policy: ``"observe"`` never acts; ``"standard"`` stops on values that are not finite and on confirmed
            divergence, and warns of all else; ``"strict"`` stops on every error; or a
            :class:`~failguard.policy.Policy`, or a mapping from code to action.
        ignore: Codes never to raise.
        detectors: ``"minimal"``, ``"standard"``, ``"full"``, or a list of detectors.
        resources: Sample CPU, memory, disk and GPU; or :class:`~failguard.resources.ResourceLimits`; or ``False``.
        check_data: Look at batches for values that are not finite or absurd, copies, constant inputs, rare classes,
            labels out of range and validation rows; or :class:`~failguard.DataChecks`, which says what raises; or
            ``False``.
        config: The run's hyperparameters. ``None``: what the framework knows of them.
        experiment, run_name, hypothesis, approach, tags: The registry entry.
        line: The line of work, which ties attempts at one thing together; ``None``: the experiment.
        parent: Id of the run that this one improves on.
        sinks: ``"auto"`` (console, local record, MLflow) or a list of sinks; ``[]`` writes nothing at all.
        record_dir: Where the local record of each run goes, one folder a run.
        alerts: Notification addresses in Apprise syntax, or callables that take the report.
        overhead_budget: The share of step time that watching may take, above 0 and at most 1.
        raise_on_failure: Raise :class:`~failguard.errors.TrainingFailure` once the framework has shut down cleanly.
        memory: Look, before training, whether configurations like this one failed before, and remember this run; or
            :class:`~failguard.FailureMemory`, which says what is alike; or ``False``.
        verify_remedies: Keep the starting weights and some batches, and after a failure try the remedies on them in a
            process of its own, for at most a minute; ``"capture"``: keep them for ``failguard verify``. Batches and
            weights go into the record's folder, pickled.

    Raises:
        ConfigurationError: A keyword cannot be used; the message names it and what is allowed.
    """

    framework: ClassVar[str] = ""

    def __init__(
        self,
        monitor: str = DEFAULT_MONITOR,
        mode: Mode = "min",
        patience: int | None = None,
        min_delta: float = 0.0,
        restore_best_weights: bool | None = None,
        policy: str | Policy | Mapping[str, Any] = "standard",
        ignore: Sequence[str] = (),
        detectors: str | Sequence[Detector] = "standard",
        resources: bool | ResourceLimits = True,
        check_data: bool | DataChecks = True,
        config: Mapping[str, Any] | None = None,
        experiment: str | None = None,
        run_name: str | None = None,
        hypothesis: str | None = None,
        approach: str | None = None,
        line: str | None = None,
        parent: str | None = None,
        tags: Mapping[str, Any] | None = None,
        sinks: Literal["auto"] | Sequence[Sink] = "auto",
        record_dir: str | os.PathLike[str] = "failguard_runs",
        alerts: Sequence[str | Callable[..., Any]] = (),
        overhead_budget: float = 0.01,
        raise_on_failure: bool = False,
        memory: bool | FailureMemory = True,
        verify_remedies: bool | Literal["capture"] = False,
    ) -> None:
        super().__init__()
        self.settings = Settings(
            monitor=monitor,
            mode=mode,
            patience=patience,
            min_delta=min_delta,
            restore_best_weights=restore_best_weights,
            policy=policy,
            ignore=ignore,
            detectors=detectors,
            resources=resources,
            check_data=check_data,
            config=config,
            experiment=experiment,
            run_name=run_name,
            hypothesis=hypothesis,
            approach=approach,
            line=line,
            parent=parent,
            tags=tags,
            sinks=sinks,
            record_dir=record_dir,
            alerts=alerts,
            overhead_budget=overhead_budget,
            raise_on_failure=raise_on_failure,
            memory=memory,
            verify_remedies=verify_remedies,
            monitor_is_named=monitor is not DEFAULT_MONITOR or patience is not None,
        )
        self._guard: Guard | None = None
        self._report: RunReport | None = None
        self._retired_hooks: set[str] = set()

    @property
    def report(self) -> RunReport:
        """The report of the current or last run.

        With ``FAILGUARD_DISABLE`` it is an empty one that says so, so that code which reads it goes on working.

        Raises:
            FailGuardError: There was no run yet.
        """
        if self._guard is not None:
            return self._guard.report
        if self._report is not None:
            return self._report
        if disabled():
            return self._unwatched("FAILGUARD_DISABLE is set: nothing was watched.")
        raise FailGuardError("There is no report yet: no training was run with this guard.")

    def _begin(self, host: Host) -> Guard | None:
        """Make the guard of a new run.

        Returns:
            The guard, to be started by the adapter; ``None`` when guards are disabled or it cannot be made.
        """
        if disabled():
            return None
        self._end()  # of a run that its framework left without a word
        if self._report is not None:
            logger.info("failguard: this guard was used before; a new report and record begin.")
        self._report = None
        self._retired_hooks.clear()
        containment = Containment()
        self._guard = containment.run("guard", Guard, self.settings, host, self.framework)
        if self._guard is None:
            self._report = self._unwatched("The guard could not be made: nothing was watched.", containment.errors)
        return self._guard

    def _end(self) -> None:
        """Finish the run, deliver its report and keep it. Does nothing when no guard is active."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        containment = guard.containment
        try:
            containment.run("finishing the run", guard.finish)
        finally:  # also where Ctrl-C ends the wait for a slow server
            report = containment.run("the report", lambda: guard.report)
            self._report = report or self._unwatched("The report could not be made.", containment.errors)

    def _unwatched(self, remark: str, errors: Sequence[PartError] = ()) -> RunReport:
        """A report for code that reads one where there is none of a run."""
        return RunReport(
            run=RunInfo(record_id="", started_at="", framework=self.framework),
            status=Status.COMPLETED,
            notes=[remark],
            part_errors=list(errors),
        )

    def __getstate__(self) -> dict[str, Any]:
        if self._guard is not None:
            raise FailGuardError("A guard cannot be copied or pickled while it watches a run. Do it before fit.")
        return self.__dict__.copy()
