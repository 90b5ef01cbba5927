from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from failguard.experiment.returned import MAX_POINTS, read_metrics


@pytest.mark.parametrize(
    ("value", "points"),
    [
        (None, {}),
        ({}, {}),
        ({"a": 1, "b": True, "c": 0.5}, {"a": [(0, 1.0)], "b": [(0, 1.0)], "c": [(0, 0.5)]}),
        ({"a": np.float32(0.5), "b": np.int64(3), "c": np.array(2.0), "d": np.array([[7.0]])},
         {"a": [(0, 0.5)], "b": [(0, 3.0)], "c": [(0, 2.0)], "d": [(0, 7.0)]}),
        ({"loss": [3.0, np.float64(2.0), 1]}, {"loss": [(0, 3.0), (1, 2.0), (2, 1.0)]}),
        ({"loss": np.array([3.0, 2.0])}, {"loss": [(0, 3.0), (1, 2.0)]}),
        ({"loss": (3.0, None, 1.0)}, {"loss": [(0, 3.0), (2, 1.0)]}),
        ({"loss": {0: 3.0, 10: 2.0}}, {"loss": [(0, 3.0), (10, 2.0)]}),
        ({"val": {"loss": 1.0, "by": {"class": 2.0}}}, {"val/loss": [(0, 1.0)], "val/by/class": [(0, 2.0)]}),
        ({3: 1.0}, {"3": [(0, 1.0)]}),
        (0.93, {"result": [(0, 0.93)]}),
        (np.float64(0.93), {"result": [(0, 0.93)]}),
        (SimpleNamespace(history={"loss": [2.0, 1.0]}), {"loss": [(0, 2.0), (1, 1.0)]}),  # Keras' History
    ],
)  # fmt: skip
def test_what_is_a_metric(value: Any, points: Any) -> None:
    found = read_metrics(value)
    assert found.points == points
    assert found.remarks == []


def test_values_that_are_not_finite_are_kept() -> None:
    found = read_metrics({"loss": math.nan, "ratio": [1.0, math.inf]})
    assert math.isnan(found.points["loss"][0][1])
    assert found.points["ratio"][1] == (1, math.inf)


class Hostile:
    shape = (1,)

    def item(self) -> float:
        raise RuntimeError("no")

    def __float__(self) -> float:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "value",
    [
        "0.9",
        None,
        1j,
        object(),
        np.zeros((2, 2)),
        [],
        ["a"],
        [1.0, "b"],
        {},
        {"a": "b"},
        Hostile(),
        10**400,
        np.array("x"),
    ],
)
def test_what_is_no_metric_is_named_and_left_out(value: Any) -> None:
    found = read_metrics({"odd": value, "fine": 1.0})
    assert found.points == {"fine": [(0, 1.0)]}
    (remark,) = found.remarks
    assert "odd" in remark


@pytest.mark.parametrize("value", ["done", object(), [1, 2], (1.0, {"a": 1}), np.zeros(3)])
def test_something_else_is_said(value: Any) -> None:
    found = read_metrics(value)
    assert (found.points, found.metrics) == ({}, {})
    assert "train_func returned" in found.remarks[0]
    assert "accuracy" in found.remarks[0]


def test_long_histories_are_thinned_out() -> None:
    found = read_metrics({"loss": list(range(50_001))})
    points = found.points["loss"]
    assert len(points) == MAX_POINTS
    assert (points[0], points[-1]) == ((0, 0.0), (50_000, 50_000.0))
    assert [s for s, _ in points] == sorted({s for s, _ in points})
    assert "50,001" in found.remarks[0]


def test_the_users_own_object_comes_back() -> None:
    given = {"accuracy": np.float32(0.5)}
    assert read_metrics(given).metrics is given
    assert len(read_metrics({str(i): i for i in range(600)}).points) == 500
