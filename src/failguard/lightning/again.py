"""Run a ``training_step`` once more, without a trace."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

from failguard.lightning.framework import package_name

__all__ = ["training_step_again"]


class _Stop(Exception):
    """Ends the second run where the first one went on to change weights."""


class _NoOptimizer:
    """Stands in for an optimizer or schedule of manual optimization: changes nothing, and ends the run at a step."""

    param_groups: list[Any] = []

    def step(self, *_: Any, **__: Any) -> None:
        raise _Stop

    def __getattr__(self, name: str) -> Callable[..., None]:
        return _nothing


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _stop(*_: Any, **__: Any) -> None:
    raise _Stop


def training_step_again(trainer: Any, module: Any, batch: Any, batch_idx: int) -> Any:
    """Call ``training_step`` without logging, backward or optimizer steps.

    To be called within :func:`failguard.torch.protect.unchanged`, which takes the stand-ins off the module again.

    Returns:
        What ``training_step`` returned, ``None`` where it was ended early.
    """
    # Attributes of the instance go before those of the class.
    module.__dict__.update(
        log=_nothing,
        log_dict=_nothing,
        manual_backward=_stop,
        optimizers=lambda *_, **__: _stand_ins(len(trainer.optimizers)),
        lr_schedulers=lambda: _stand_ins(len(trainer.lr_scheduler_configs)),
        toggle_optimizer=_nothing,
        untoggle_optimizer=_nothing,
        clip_gradients=_nothing,
    )
    loggers = trainer.loggers
    if loggers:
        trainer.loggers = [import_module(f"{package_name()}.loggers.logger").DummyLogger()]
    arguments = (batch, batch_idx) if _takes_index(module.training_step) else (batch,)
    try:
        with trainer.precision_plugin.train_step_context():
            return module.training_step(*arguments)
    except _Stop:
        return None
    finally:
        trainer.loggers = loggers


def _stand_ins(count: int) -> Any:
    return _NoOptimizer() if count == 1 else [_NoOptimizer() for _ in range(count)]


def _takes_index(function: Callable[..., Any]) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return sum(p.kind in kinds for p in parameters) >= 2 or any(p.kind is p.VAR_POSITIONAL for p in parameters)
