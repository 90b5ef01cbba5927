"""What can be run as a training function, and which configuration belongs to a decorated one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from failguard.errors import ConfigurationError, InputError

__all__ = ["check_returned", "check_train_func", "config_of_call"]

_KINDS: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (inspect.isasyncgenfunction, "an async generator function"),
    (inspect.iscoroutinefunction, "an async function"),
    (inspect.isgeneratorfunction, "a generator function"),
)
_REMEDY = "pass a plain function, such as lambda config: asyncio.run(train(config))"


def check_train_func(train_func: object) -> None:
    """Refuse what would train nothing when it is called, before there is a run.

    Raises:
        ConfigurationError: It is no function, or an async or generator function.
    """
    if not callable(train_func):
        raise ConfigurationError(
            f"train_func={type(train_func).__name__} cannot be used: pass a function that takes the config and returns "
            "metrics, and not what it returns."
        )
    inner: Any = train_func
    while isinstance(inner, functools.partial):
        inner = inner.func
    is_plain = inspect.isroutine(inner) or inspect.isclass(inner)
    called = inner if is_plain else inspect.getattr_static(type(inner), "__call__", inner)
    for is_kind, kind in _KINDS:
        if is_kind(inner) or is_kind(called):
            remedy = _REMEDY if "async" in kind else "return the metrics at the end, in place of yielding them"
            raise ConfigurationError(
                f"train_func is {kind}: calling it would train nothing. {remedy[0].upper()}{remedy[1:]}."
            )


def check_returned(value: object) -> None:
    """Refuse a coroutine or generator that a plain function handed back: nothing has been trained.

    Raises:
        InputError: It is one.
    """
    if inspect.iscoroutine(value):
        value.close()  # else Python warns that it was never awaited
    elif not (inspect.isawaitable(value) or inspect.isgenerator(value) or inspect.isasyncgen(value)):
        return
    raise InputError(
        f"train_func returned a {type(value).__name__}: nothing was trained. Await or consume it inside train_func."
    )


def config_of_call(function: Callable[..., Any], args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """The configuration of one call of a decorated function: its only argument where that is a mapping, else all of its
    arguments by name, defaults included.

    Raises:
        TypeError: The arguments do not fit, as from the call itself.
    """
    signature = inspect.signature(function)
    bound = signature.bind(*args, **keywords)
    bound.apply_defaults()
    values: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            values.update(value)
        elif not (signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL and not value):
            values[name] = value
    if len(values) == 1:
        (only,) = values.values()
        if isinstance(only, Mapping):
            return only
    return values
