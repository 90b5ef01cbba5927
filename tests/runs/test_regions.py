from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failguard.runs.entry import RunEntry
from failguard.runs.regions import changed_values, region_of

Make = Callable[..., RunEntry]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ({"lr": 0.1}, {"lr": 0.12}, True),
        ({"lr": 0.1}, {"lr": 0.3}, False),
        ({"lr": 0.1}, {"lr": 0.1, "seed": 7}, True),
        ({"width": 64}, {"width": 64.0}, True),
        ({"width": 64}, {"width": -64}, False),
        ({"p": 0}, {"p": 1e-9}, False),
        ({"optimizer": "Adam"}, {"optimizer": "adam "}, True),
        ({"optimizer": "adam"}, {"optimizer": "sgd"}, False),
        ({"layers": [64, 64]}, {"layers": [70, 60]}, True),
        ({"layers": [64, 64]}, {"layers": [64]}, False),
        ({"lr": 0.1, "data_dir": "/a"}, {"lr": 0.1, "data_dir": "/b", "run_name": "x", "num_workers": 4}, True),
        ({"lr": 0.1, "corpus": "s3://a/b"}, {"lr": 0.1, "corpus": "./c"}, True),
        ({"lora_rank": 4}, {"lora_rank": 16}, False),
        ({"model_name": "bert/a"}, {"model_name": "bert/b"}, False),
        ({"flag": True}, {"flag": 1}, False),
    ],
)
def test_what_is_one_region(run: Make, a: dict[str, Any], b: dict[str, Any], same: bool) -> None:
    assert (region_of(run("a", "s", 0, config=a)) == region_of(run("b", "s", 0, config=b))) is same


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ({"model": "Net", "optimizer": "SGD"}, {"model": "Net", "optimizer": "Adam"}, False),
        ({"model": "Net", "optimizer": "SGD"}, {}, True),  # one that was not watched
        ({"model": "Net", "loss": "mse", "batch_size": 8}, {"model": "Net"}, True),  # one that ended before a batch
        ({"learning_rate": 0.1}, {"learning_rate": 0.9}, True),  # the configuration names it
    ],
)
def test_the_setup_counts_where_it_is_known(run: Make, a: dict[str, Any], b: dict[str, Any], same: bool) -> None:
    one, two = (region_of(run("a", "s", 0, config={"lr": 0.1}, setup=setup)) for setup in (a, b))
    assert one is not None
    assert two is not None
    assert one.matches(two) is two.matches(one) is same


def test_where_the_configuration_says_nothing(run: Make) -> None:
    one, two = (run("a", "s", 0, setup={"model": "Net", "learning_rate": rate}) for rate in (0.1, 0.9))
    assert region_of(one) != region_of(two)
    assert region_of(run("a", "s", 0)) is None
    assert region_of(run("a", "s", 0, config={"seed": 1})) is None


def test_what_changed(run: Make) -> None:
    a = run("a", "f", 0, config={"lr": 0.3, "width": 8, "seed": 1, "limit": math.nan})
    b = run("b", "s", 2, config={"lr": 0.03, "width": 8, "seed": 2, "limit": math.nan, "clip": 1.0})
    assert [(c.name, c.before, c.after) for c in changed_values(a, b)] == [("lr", 0.3, 0.03), ("clip", None, 1.0)]


def test_what_changed_in_the_setup(run: Make) -> None:
    setup = {"optimizer": "SGD", "learning_rate": 0.3, "model": "A"}
    a = run("a", "f", 0, config={"lr": 0.3}, setup=setup)
    b = run("b", "s", 2, config={"lr": 0.03}, setup={**setup, "learning_rate": 0.03, "model": "B", "loss": "mse"})
    assert [str(c) for c in changed_values(a, b)] == ["lr 0.3 → 0.03", "model A → B"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=12), VALUES, max_size=5))
def test_any_configuration_has_a_region_of_its_own(run: Make, config: dict[str, Any]) -> None:
    entry = run("a", "s", 0, config=config)
    assert region_of(entry) == region_of(run("b", "f", 9, config=dict(reversed(config.items()))))
    assert changed_values(entry, entry) == []
