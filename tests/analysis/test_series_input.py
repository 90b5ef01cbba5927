from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from failguard.analysis.log import read_series
from failguard.analysis.values import as_float, as_floats
from failguard.errors import InputError


class Scalar:
    """Like a tensor of one element."""

    def __float__(self) -> float:
        return 0.25


class Broken:
    def __float__(self) -> float:
        raise RuntimeError("a tensor that cannot be read")

    def __repr__(self) -> str:
        raise RuntimeError("nor shown")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2.5, None], [1.0, 2.5, None]),
        ((Decimal("0.5"), True, np.float32(2)), [0.5, 1.0, 2.0]),
        (np.array([1, 2], dtype=np.float16), [1.0, 2.0]),
        (np.ma.array([1.0, 2.0], mask=[False, True]), [1.0, None]),
        ([Scalar(), Scalar()], [0.25, 0.25]),
        (iter([1.0]), [1.0]),
        (range(3), [0.0, 1.0, 2.0]),
        ([math.inf], [math.inf]),
    ],
)
def test_numbers_of_many_kinds(values: Any, expected: list[float | None]) -> None:
    assert as_floats(values, "loss") == expected


def test_nan_is_a_value_and_none_is_not() -> None:
    nan, nothing = as_floats([math.nan, None], "loss")
    assert nan is not None
    assert math.isnan(nan)
    assert nothing is None


@pytest.mark.parametrize(
    "values", ["0.5", b"0.5", None, {"a": 1}, 3.0, ["0.5"], [[1.0]], [1j], [Broken()], [10**400], np.zeros((2, 2))]
)
def test_what_is_no_series_is_named(values: Any) -> None:
    with pytest.raises(InputError, match="loss"):
        as_floats(values, "loss")


def test_the_place_of_a_bad_value_is_named() -> None:
    with pytest.raises(InputError, match="Value 2 of the series 'val_loss' is text: 'n/a'"):
        as_floats([1.0, 2.0, "n/a"], "val_loss")
    with pytest.raises(InputError, match="'loss' of item 3"):
        as_float([1.0, 2.0], "'loss' of item 3")


@pytest.mark.parametrize("source", [{}, {"train_loss": []}, {"train_loss": [None, None]}])
def test_nothing_to_look_at(source: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no values"):
        read_series(source)


def test_empty_series_are_left_out() -> None:
    log = read_series({"loss": [1.0], "val_loss": []})
    assert log.names == ["loss"]
    assert log.ragged is None


@pytest.mark.framework
def test_tensors_with_a_graph() -> None:
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.tensor([0.5, 0.25]))
    assert as_floats(weight * 2, "loss") == [1.0, 0.5]
    assert as_floats([weight.sum()], "loss") == [0.75]
