"""An experiment as a block or a decorated function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from failguard.errors import ConfigurationError
from failguard.experiment.result import ExperimentResult
from failguard.experiment.returned import Returned
from failguard.experiment.run import ExperimentRun
from failguard.experiment.train_func import check_train_func, config_of_call

if TYPE_CHECKING:
    from failguard.experiment.manager import ExperimentManager

__all__ = ["Experiment"]


class Experiment:
    """What :meth:`ExperimentManager.experiment` gives: a context manager, or a decorator.

    Attributes:
        result: After the block: as :meth:`ExperimentManager.run_experiment` gives it.
    """

    def __init__(
        self, manager: ExperimentManager, name: str | None, hypothesis: str, config: Any, keywords: Mapping[str, Any]
    ) -> None:
        self._manager = manager
        self._name, self._hypothesis, self._config = name, hypothesis, config
        self._keywords = dict(keywords)
        self._runs: list[ExperimentRun] = []
        self.result: ExperimentResult | None = None

    def __enter__(self) -> ExperimentRun:
        if self._keywords.get("retries"):
            raise ConfigurationError("retries cannot be used with a block: only a function can be called again.")
        keywords = {k: v for k, v in self._keywords.items() if k not in ("retries", "retry_wait_s")}
        if self._name is None:
            raise ConfigurationError("name is missing: an experiment has a name, such as manager.experiment('wider').")
        run = ExperimentRun(self._manager._planned(self._name, self._hypothesis, self._config, **keywords))
        run.start()
        self._runs.append(run)
        return run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run = self._runs.pop()
        self.result = self._manager._ended(run, error, Returned(metrics=run.last_metrics()))

    def __call__(self, function: Callable[..., Any]) -> Callable[..., ExperimentResult]:
        """Make each call of a function an experiment."""
        check_train_func(function)
        name = str(self._name or getattr(function, "__name__", "experiment"))

        @functools.wraps(function)
        def as_experiment(*args: Any, **keywords: Any) -> ExperimentResult:
            if not args and not keywords and self._config is not None:
                args = (self._config,)
            config = config_of_call(function, args, keywords)
            return self._manager.run_experiment(
                name, self._hypothesis, config, lambda _: function(*args, **keywords), **self._keywords
            )

        return as_experiment
