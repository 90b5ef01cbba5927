from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import failguard
from failguard.errors import ConfigurationError
from failguard.runs.memory_settings import FailureMemory
from failguard.settings import Settings


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"similar_share": 0}, ["similar_share=0", "above 0"]),
        ({"similar_share": 1.5}, ["similar_share=1.5"]),
        ({"similar_share": True}, ["similar_share=True"]),
        ({"similar_share": float("nan")}, ["similar_share=nan"]),
        ({"ignore_keys": "seed"}, ["ignore_keys='seed'", "list"]),
        ({"ignore_keys": [1]}, ["ignore_keys=[1]"]),
        ({"keys": "lr"}, ["keys='lr'"]),
        ({"keys": [""]}, ["keys=['']"]),
        ({"min_failures": 0}, ["min_failures=0"]),
        ({"min_failures": 1.5}, ["min_failures=1.5"]),
        ({"wait_s": -1}, ["wait_s=-1"]),
        ({"wait_s": 60}, ["wait_s=60", "10"]),
        ({"experiments": "mine"}, ["experiments='mine'", "'same line'", "'all'"]),
    ],
)
def test_what_cannot_be_used_is_named(keywords: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigurationError) as error:
        FailureMemory(**keywords)
    for word in words:
        assert word in str(error.value)


def test_the_keyword_of_the_guard() -> None:
    assert Settings(sinks=[]).failure_memory == FailureMemory()
    assert Settings(sinks=[], memory=False).failure_memory is None
    chosen = failguard.FailureMemory(keys=["lr"], wait_s=0)
    assert Settings(sinks=[], memory=chosen).failure_memory is chosen
    with pytest.raises(ConfigurationError, match=r"memory='yes'.*FailureMemory"):
        Settings(sinks=[], memory="yes")  # type: ignore[arg-type]


def test_it_is_copied_and_pickled() -> None:
    chosen = FailureMemory(ignore_keys=["a", "b"], keys=["lr"])
    assert copy.deepcopy(chosen) == pickle.loads(pickle.dumps(chosen)) == chosen
    assert chosen.ignore_keys == ("a", "b")
