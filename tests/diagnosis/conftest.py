"""Runs in numbers, for the tests of the diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from failguard.core.facts import Facts, ModelFacts, OptimizerFacts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.improvement import Improvement

MakeHistory = Callable[..., History]
MakeFinding = Callable[..., Finding]


@pytest.fixture
def make_history() -> MakeHistory:
    """A history from plain lists; keywords beside them are facts."""

    def make(
        loss: Sequence[float] = (),
        gradient_norm: Sequence[float] = (),
        epochs: dict[str, Sequence[float]] | None = None,
        *,
        optimizer: dict[str, Any] | None = None,
        model: dict[str, Any] | None = None,
        monitor: str = "val_loss",
        **facts: Any,
    ) -> History:
        history = History(
            monitor=monitor,
            improvement=Improvement("min"),
            facts=Facts(optimizer=OptimizerFacts(**(optimizer or {})), model=ModelFacts(**(model or {})), **facts),
        )
        for step, value in enumerate(loss):
            history.step_series("loss").append(step, value)
        for step, value in enumerate(gradient_norm):
            history.step_series("gradient_norm").append(step, value)
        for name, values in (epochs or {}).items():
            for epoch, value in enumerate(values):
                history.epoch_series(name).append(epoch, value)
                if name == monitor:
                    history.improvement.update(value, epoch=epoch, step=epoch * 10)
        return history

    return make


@pytest.fixture
def make_finding() -> MakeFinding:
    """A finding with a place."""

    def make(
        code: str,
        step: int = 0,
        severity: str = "error",
        message: str = "It was seen.",
        epoch: int = 0,
        **where: Any,
    ) -> Finding:
        return Finding(code, Severity(severity), step, epoch, message, Where(**where))

    return make
