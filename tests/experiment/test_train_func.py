from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from failguard import ExperimentManager
from failguard.errors import ConfigurationError, InputError
from failguard.experiment.train_func import check_returned, check_train_func, config_of_call


async def awaits(config: Any) -> None: ...


async def awaits_many(config: Any) -> AsyncIterator[int]:
    yield 1


def yields(config: Any) -> Iterator[int]:
    yield 1


class Awaits:
    async def __call__(self, config: Any) -> None: ...


class Inherits(Awaits): ...


class Calls:
    def __call__(self, config: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (awaits, "async function"),
        (awaits_many, "async generator"),
        (yields, "generator function"),
        (functools.partial(awaits, 1), "async function"),
        (Awaits(), "async function"),
        (Inherits(), "async function"),
        (Awaits().__call__, "async function"),
        ({"accuracy": 1}, "train_func=dict"),
        (None, "NoneType"),
    ],
)
def test_what_would_train_nothing_is_refused_before_there_is_a_run(function: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ExperimentManager("churn", sinks=[]).run_experiment("a", "b", {}, function)


@pytest.mark.parametrize("function", [print, Calls(), functools.partial(print, 1), lambda c: None, dict])
def test_what_can_be_called_is_taken(function: Any) -> None:
    check_train_func(function)


@pytest.mark.filterwarnings("error")  # a coroutine that nobody awaits warns
@pytest.mark.parametrize("function", [awaits, awaits_many, yields])
def test_what_hides_behind_a_plain_function_is_a_failure(function: Any) -> None:
    with pytest.raises(InputError, match="nothing was trained"):
        check_returned(function({}))
    result = ExperimentManager("churn", sinks=[]).run_experiment("a", "b", {}, lambda c: function(c))
    assert result["status"] == "failed"
    assert "nothing was trained" in result["error"]


def takes(lr: float, width: int = 3, *rest: int, **more: Any) -> None: ...


def test_the_config_of_a_decorated_call() -> None:
    config = {"lr": 0.1}
    assert config_of_call(lambda config: None, (config,), {}) is config
    assert config_of_call(takes, (0.1,), {}) == {"lr": 0.1, "width": 3}
    assert config_of_call(takes, (0.1, 2, 7), {"a": 1}) == {"lr": 0.1, "width": 2, "rest": (7,), "a": 1}
    with pytest.raises(TypeError):
        config_of_call(takes, (), {"width": 1})
