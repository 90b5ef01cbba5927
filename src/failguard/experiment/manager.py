"""``ExperimentManager``: runs training as experiments."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from failguard.core.exceptions import exception_facts
from failguard.core.log import logger
from failguard.core.redaction import short
from failguard.errors import ConfigurationError, TrainingFailure
from failguard.experiment.block import Experiment
from failguard.experiment.learnings import FailureAnalysis, learnings_of
from failguard.experiment.plan import Plan
from failguard.experiment.result import ExperimentResult
from failguard.experiment.retries import is_transient, wait_s
from failguard.experiment.returned import Returned, read_metrics
from failguard.experiment.run import ExperimentRun
from failguard.experiment.seeds import check_seed
from failguard.experiment.train_func import check_returned, check_train_func
from failguard.sinks.base import Sink

__all__ = ["ExperimentManager"]


class ExperimentManager(FailureAnalysis):
    """Runs training functions as experiments of one project, and keeps what is learned from those that fail.

    Example::

        manager = failguard.ExperimentManager("churn")
        result = manager.run_experiment("wider", "width helps recall", {"width": 512}, train)
        # {"status": "success", "metrics": {...}}
        # {"status": "failed", "error": "...", "learnings": {"error_type": ..., "likely_cause": ..., ...}}

    Each experiment is an MLflow run of the project's experiment, active while it trains, and a local record. A guard
    (``FailGuard``) inside it writes to the same run, and its report becomes the experiment's: a run that it found
    failing is a failed experiment with that diagnosis. The tracking store may be down: training runs, the local record
    is kept, and ``failguard sync`` sends it.

    Override ``analyze_failure``, ``diagnose_error``, ``check_config`` or ``suggest_fixes`` in a subclass to bring in
    what you know of your failures; what they raise is noted, and never hides the failure itself.

    Args:
        project_name: Name of the MLflow experiment.
        tracking_uri: The MLflow store; ``None``: the one MLflow itself would use. Where MLflow uses another one, it
            uses this one while an experiment runs.
        line: The line of work of all experiments that name none; ``None``: the project.
        tags: Tags of every run.
        record_dir: Where the local records go, one folder a run.
        sinks: ``"auto"`` (local record, MLflow, console) or a list of sinks; ``[]`` writes nothing at all.
        alerts: Notification addresses in Apprise syntax, or callables that take the report.
        max_memory_increase_mb: Warn when memory grows by more, in MB of 1,048,576 bytes; ``None``: no limit.
        max_duration_s: Warn when an experiment takes longer, in seconds; ``None``: no limit.
        pass_through: Types of exceptions that end an experiment on purpose: recorded as an interruption, and raised
            again. Optuna's ``TrialPruned`` is one of them without being named.

    Raises:
        ConfigurationError: An argument cannot be used.

    Attributes:
        project: As given.
    """

    def __init__(
        self,
        project_name: str,
        tracking_uri: str | os.PathLike[str] | None = None,
        *,
        line: str | None = None,
        tags: Mapping[str, Any] | None = None,
        record_dir: str | os.PathLike[str] = "failguard_runs",
        sinks: Literal["auto"] | Sequence[Sink] = "auto",
        alerts: Sequence[str | Callable[..., Any]] = (),
        max_memory_increase_mb: float | None = None,
        max_duration_s: float | None = None,
        pass_through: Sequence[type[BaseException]] = (),
    ) -> None:
        if not isinstance(project_name, str) or not project_name.strip():
            raise ConfigurationError(
                f"project_name={short(project_name)} cannot be used: it is the name of an MLflow experiment, such as "
                "'churn'."
            )
        uri = None if tracking_uri is None else os.fspath(tracking_uri)
        if uri is not None and (not isinstance(uri, str) or not uri):
            raise ConfigurationError(f"tracking_uri={short(uri)} cannot be used: it takes an address, or None.")
        kinds = tuple(pass_through) if isinstance(pass_through, Sequence) else (pass_through,)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise ConfigurationError(
                f"pass_through={short(pass_through)} cannot be used: it takes types of exceptions."
            )
        self.project = project_name
        self._plan = Plan(
            project=project_name,
            name="experiment",
            tags=_tags(tags),
            line=line,
            tracking_uri=uri,
            record_dir=record_dir,
            sinks=sinks,
            alerts=alerts,
            max_memory_increase_mb=max_memory_increase_mb,
            max_duration_s=max_duration_s,
            pass_through=kinds,
        )

    def run_experiment(
        self,
        name: str,
        hypothesis: str,
        config: Any,
        train_func: Callable[[Any], Any],
        *,
        approach: str | None = None,
        tags: Mapping[str, Any] | None = None,
        line: str | None = None,
        parent: str | None = None,
        seed: int | None = None,
        retries: int = 0,
        retry_wait_s: float = 1.0,
        max_memory_increase_mb: float | None = None,
        max_duration_s: float | None = None,
    ) -> ExperimentResult:
        """Run one experiment. An exception of ``train_func`` becomes a result, not an exception.

        Args:
            name: Of the run.
            hypothesis: What is believed, in a sentence.
            config: The hyperparameters: a mapping, a dataclass, a namespace or ``None``. Recorded as far as it can be
                (nested names are joined with dots, arrays by shape, functions by name, secrets not at all);
                ``train_func`` gets the object itself.
            train_func: Takes the config and returns metrics: numbers or histories (one number a step) by name, a Keras
                ``History``, one number, or ``None``. Anything else is left out with a remark. NaN and Inf are recorded
                as they are; a loss that is not finite is a failure, another metric a warning.
            approach: How the hypothesis is tested.
            tags: Tags of the run.
            line: The line of work that it belongs to; ``None``: the manager's.
            parent: Id of the run that this one improves on.
            seed: Seeds Python, NumPy, torch, TensorFlow and Keras, where they are loaded, and is recorded. From 0 to
                2**32 - 1.
            retries: How many more times to try where the cause passes by itself: the network, a collective, a lost
                device, interrupted input or output. Each attempt is a run of its own, tagged ``failguard.attempt``.
            retry_wait_s: Seconds before the second attempt; twice as long before each further one, at most a minute.
            max_memory_increase_mb, max_duration_s: In place of the manager's.

        Returns:
            ``{"status": "success", "metrics": ...}`` or ``{"status": "failed", "error": ..., "learnings": ...}``.

        Raises:
            ConfigurationError: An argument cannot be used; no run was made.
            BaseException: An interrupt (Ctrl-C, ``sys.exit``) or one of ``pass_through``, once it is recorded.
        """
        check_train_func(train_func)
        if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
            raise ConfigurationError(f"retries={retries!r} cannot be used: it takes a whole number from 0.")
        is_number = isinstance(retry_wait_s, int | float) and not isinstance(retry_wait_s, bool)
        if not is_number or not 0 <= retry_wait_s < float("inf"):
            raise ConfigurationError(f"retry_wait_s={retry_wait_s!r} cannot be used: it takes seconds from 0.")
        plan = self._planned(
            name, hypothesis, config, approach, tags, line, parent, seed, max_memory_increase_mb, max_duration_s
        )
        attempt = 1
        while True:
            run = ExperimentRun(plan)
            run.start()
            error: BaseException | None = None
            returned = Returned()
            try:
                value = train_func(config)
                check_returned(value)
                returned = read_metrics(value)
            except BaseException as raised:  # noqa: BLE001 - recorded; interrupts are raised again
                error = raised
            tries_again = error is not None and attempt <= retries and is_transient(error)
            tries_again = tries_again and not run.is_passed_through(error)  # type: ignore[arg-type]
            pause_s = wait_s(retry_wait_s, attempt)
            if tries_again:
                remark = f"Attempt {attempt} of at most {retries + 1} failed; the next one follows in {pause_s:g} s."
                run.note(remark)
                logger.warning("failguard: %s: %s", name, remark)
            result = self._ended(run, error, returned, attempt)
            if error is not None and run.is_passed_through(error):
                raise error
            if not tries_again:
                return result
            time.sleep(pause_s)
            attempt += 1
            more = {"failguard.attempt": attempt, **({"failguard.retry_of": run.run_id} if run.run_id else {})}
            plan = replace(plan, tags={**plan.tags, **more}, parent=parent or run.run_id)

    def experiment(
        self,
        name: str | None = None,
        hypothesis: str = "",
        config: Any = None,
        **keywords: Any,
    ) -> Experiment:
        """An experiment as a context manager or a decorator.

        Example::

            with manager.experiment("wider", hypothesis="width helps recall", config={"width": 512}) as run:
                run.log_metrics({"recall": train()})

            @manager.experiment(hypothesis="width helps recall", seed=0)
            def wider(config): ...

            result = wider({"width": 512})

        The context manager records an exception and lets it pass; ``.result`` is there afterwards. A decorated function
        gives the result of :meth:`run_experiment`; its config is its only argument where that is a mapping, else all of
        its arguments by name.

        Args:
            name: Of the run; ``None``: the name of the decorated function.
            hypothesis: What is believed, in a sentence.
            config: The hyperparameters. A decorated function gets them as its argument where it is called without one.
            **keywords: Those of :meth:`run_experiment`; retries only for a decorated function.

        Raises:
            ConfigurationError: An argument cannot be used.
        """
        return Experiment(self, name, hypothesis, config, keywords)

    # How it is done

    def _planned(
        self,
        name: str,
        hypothesis: str,
        config: Any,
        approach: str | None = None,
        tags: Mapping[str, Any] | None = None,
        line: str | None = None,
        parent: str | None = None,
        seed: int | None = None,
        max_memory_increase_mb: float | None = None,
        max_duration_s: float | None = None,
    ) -> Plan:
        own = self._plan
        memory = own.max_memory_increase_mb if max_memory_increase_mb is None else max_memory_increase_mb
        return replace(
            own,
            name=name,
            hypothesis=hypothesis,
            config=config,
            approach=approach,
            tags={**own.tags, **_tags(tags)},
            line=own.line if line is None else line,
            parent=parent,
            seed=check_seed(seed),
            max_memory_increase_mb=memory,
            max_duration_s=own.max_duration_s if max_duration_s is None else max_duration_s,
        )

    def _ended(
        self, run: ExperimentRun, error: BaseException | None, returned: Returned, attempt: int = 1
    ) -> ExperimentResult:
        """Record the end of an experiment and say what came of it."""
        report = run.finish(error, returned)
        learnings: dict[str, Any] = {}
        is_failure = report.failing or (error is not None and not run.is_passed_through(error))
        if is_failure:
            failure = error if error is not None else TrainingFailure(report.diagnosis.summary, report)
            learnings = learnings_of(self, failure, run.config, report, run.note)
            report = run.deliver(learnings)
            text = _text(error) if error is not None else report.diagnosis.summary
            values = {"status": "failed", "error": text, "learnings": learnings}
        else:
            report = run.deliver({})
            values = {"status": "success", "metrics": returned.metrics}
            if error is not None:
                values = {"status": "interrupted", "error": _text(error)}
        return ExperimentResult(values, report=report, run_id=run.run_id, metrics=returned.metrics, attempts=attempt)


def _tags(tags: Mapping[str, Any] | None) -> dict[str, Any]:
    if tags is not None and not isinstance(tags, Mapping):
        raise ConfigurationError(f"tags={short(tags)} cannot be used: it takes a mapping such as {{'team': 'vision'}}.")
    return dict(tags or {})


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the user's own __str__
        return exception_facts(error).message
