"""Values as strict JSON can hold them, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

__all__ = ["from_plain", "plain"]

# JSON has no word for these three; they are written as text.
_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

MAX_DEPTH = 32  # deeper is a cycle or not for people
MAX_TEXT = 1_000  # of an object that is none of JSON's kinds


def plain(value: Any, _depth: int = 0) -> Any:
    """The value as dicts with text keys, lists, text, numbers, booleans and ``None``.

    Floats that are not finite become ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``. Tuples and sets become lists.
    An object of another kind becomes its text, at most 1,000 characters.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return plain(value.value, _depth + 1)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if _depth >= MAX_DEPTH:
        return _text(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name), _depth + 1) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v, _depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, _depth + 1) for v in value]
    if isinstance(value, Set):
        return sorted((plain(v, _depth + 1) for v in value), key=str)
    return _from_array(value, _depth)


def _from_array(value: Any, depth: int) -> Any:
    """Scalars of array libraries as numbers, without importing one; anything else as text."""
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        item = value.item()
        if isinstance(item, bool | int | float | str):
            return plain(item, depth + 1)
    return _text(value)


def _text(value: object) -> str:
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - an object whose text cannot be made must not cost the record
        text = f"<{type(value).__name__}>"
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def from_plain(value: Any) -> Any:
    """The inverse of :func:`plain` for dicts, lists, text and numbers: the three words become floats again."""
    if isinstance(value, str):
        return _NON_FINITE.get(value, value)
    if isinstance(value, Mapping):
        return {str(k): from_plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [from_plain(v) for v in value]
    return value
