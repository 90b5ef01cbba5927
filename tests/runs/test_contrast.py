from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failguard.runs.contrast import splits, value_text


def rows(name: str, *values: Any) -> list[dict[str, Any]]:
    return [{name: value} for value in values]


def test_a_threshold_of_a_number() -> None:
    (split,) = splits(rows("lr", 0.3, 0.5, 1.0), rows("lr", 0.03, 0.01, 0.02, 0.001, 0.03))
    assert (split.failing_side, split.failed, split.failed_of) == ("lr >= 0.3", 3, 3)
    assert (split.good_side, split.good, split.good_of) == ("lr <= 0.03", 5, 5)
    assert split.fails({"lr": 0.3})
    assert split.fails({"lr": 7.0})
    assert split.is_good({"lr": 0.03})
    assert split.is_good({"lr": 1e-5})
    assert not split.fails({"lr": 0.1})
    assert not split.is_good({"lr": 0.1}), "in between nothing is known"
    assert not split.fails({})
    assert not split.is_good({"lr": "auto"})


def test_low_values_can_fail_too() -> None:
    (split,) = splits(rows("epochs", 1.0, 2.0), rows("epochs", 10.0, 20.0))
    assert (split.failing_side, split.good_side) == ("epochs <= 2", "epochs >= 10")
    assert split.fails({"epochs": 1.0})
    assert split.is_good({"epochs": 30.0})


def test_a_few_exceptions_are_counted_and_not_hidden() -> None:
    failed = rows("lr", *[0.3 + i / 100 for i in range(9)], 0.001)
    good = rows("lr", *[0.03] * 9, 0.35)
    (split,) = splits(failed, good)
    assert (split.failed, split.failed_of) == (9, 10)
    assert (split.good, split.good_of) == (9, 10)
    assert split.score == pytest.approx(0.9)


def test_no_threshold_where_the_groups_overlap() -> None:
    assert splits(rows("lr", 0.1, 0.2, 0.3), rows("lr", 0.1, 0.2, 0.3)) == []
    assert splits(rows("lr", 0.1, 0.9), rows("lr", 0.2, 0.3)) == [], "both ends failed"
    assert splits([], rows("lr", 0.1)) == []
    assert splits(rows("lr", 0.1), []) == []


def test_words_and_what_is_not_set() -> None:
    (split,) = splits(rows("act", "relu", "tanh"), rows("act", "gelu"))
    assert (split.failing_side, split.good_side) == ("act relu or tanh", "act gelu")
    assert split.fails({"act": "tanh"})
    assert not split.fails({"act": "selu"})
    (clip,) = splits([{"lr": 0.3}], [{"lr": 0.3, "clip": 1.0}])
    assert (clip.failing_side, clip.good_side) == ("clip not set", "clip 1")
    assert clip.fails({"lr": 0.3})
    assert clip.is_good({"clip": 1.0})
    assert splits(rows("act", "relu", "gelu"), rows("act", "gelu")) == []


def test_the_value_that_the_cause_depends_on_comes_first() -> None:
    failed, good = [{"width": 900.0, "lr": 0.3}], [{"width": 1.0, "lr": 0.2}]
    assert [s.name for s in splits(failed, good)] == ["width", "lr"]
    assert [s.name for s in splits(failed, good, {"learning_rate"})] == ["lr", "width"]


def test_values_in_words() -> None:
    assert [value_text(v) for v in (None, True, 0.30000001, 12000.0, "x")] == ["not set", "True", "0.3", "12,000", "x"]


numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8)


@given(numbers, numbers)
def test_counts_are_what_they_say(failed: list[float], good: list[float]) -> None:
    for split in splits(rows("x", *failed), rows("x", *good)):
        both = [(v, True) for v in failed] + [(v, False) for v in good]
        failing = [bad for v, bad in both if split.fails({"x": v})]
        well = [bad for v, bad in both if split.is_good({"x": v})]
        assert (split.failed, split.failed_of) == (sum(failing), len(failing))
        assert (split.good, split.good_of) == (well.count(False), len(well))
        assert split.failed >= 0.8 * len(failed)
        assert 0.8 <= split.score <= 1.0
