"""What users hand in as numbers: Python and numpy numbers, tensors, lists of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from failguard.core.redaction import short
from failguard.errors import InputError

__all__ = ["as_float", "as_floats"]


def as_float(value: Any, what: str) -> float | None:
    """One number.

    Args:
        value: A number, or a scalar of an array library. ``None`` is no value.
        what: What it is, for the message.

    Raises:
        InputError: It is no single number.
    """
    if value is None or type(value) is float:
        return value
    if isinstance(value, str | bytes):
        raise InputError(f"{what} is text: {short(value)}. Hand in numbers.")
    try:
        if callable(getattr(value, "detach", None)):  # torch warns about a tensor that carries a graph
            value = value.detach()
        return float(value)
    except Exception as error:  # whatever the array library raises
        raise InputError(f"{what} is not a single number: {short(value)} ({type(error).__name__}).") from error


def as_floats(values: Any, name: str) -> list[float | None]:
    """A series of numbers.

    Args:
        values: A sequence or other iterable of numbers, or an array or tensor of shape (n,). ``None`` is no value.
        name: Name of the series, for the message.

    Raises:
        InputError: It is no series of single numbers.
    """
    if isinstance(values, str | bytes | Mapping) or values is None:
        raise InputError(f"The series {name!r} is {short(values)}. Hand in a list of numbers.")
    shape = getattr(values, "shape", None)
    if shape is not None and len(shape) != 1:
        raise InputError(f"The series {name!r} has the shape {tuple(shape)}. Hand in one number a step or epoch: (n,).")
    if shape is not None and callable(getattr(values, "tolist", None)):  # many times faster than one by one
        values = values.tolist()
    if not isinstance(values, Iterable):
        raise InputError(f"The series {name!r} is {short(values)}. Hand in a list of numbers.")
    return [
        value if type(value) is float or value is None else as_float(value, f"Value {i} of the series {name!r}")
        for i, value in enumerate(values)
    ]
