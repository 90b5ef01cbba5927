"""What a training function returned, as metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from failguard.core.redaction import redact_text

__all__ = ["Points", "Returned", "read_metrics"]

Points = list[tuple[int, float]]

MAX_POINTS = 10_000  # of one metric; a longer history is thinned out evenly
MAX_METRICS = 500
MAX_DEPTH = 4
LONE = "result"  # name of a number that was returned by itself


@dataclass(slots=True)
class Returned:
    """Metrics as they are recorded.

    Attributes:
        metrics: What was returned, as the caller gets it: the user's own object where it is a mapping.
        points: Step and value of each number, by name; nested names are joined with ``/``.
        remarks: What was left out, and why.
    """

    metrics: Any = field(default_factory=dict)
    points: dict[str, Points] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def read_metrics(value: object) -> Returned:
    """Take in what ``train_func`` returned.

    Args:
        value: A mapping from names to numbers or to histories (a list or 1-d array of one number a step, or a mapping
            from step to number); a Keras ``History``; one number; or ``None``. Numbers may be scalars of NumPy, torch,
            TensorFlow or JAX. Anything else is no reason for a failure: it is left out, with a remark.
    """
    if value is None:
        return Returned()
    history = getattr(value, "history", None)
    if not isinstance(value, Mapping) and isinstance(history, Mapping):  # Keras' History
        value = history
    if isinstance(value, Mapping):
        found = Returned(metrics=value)
        _read_mapping(value, found)
        return found
    number = _number(value)
    if number is not None:
        return Returned(metrics={LONE: value}, points={LONE: [(0, number)]})
    remark = (
        f"train_func returned {_kind(value)}, which is not recorded: return numbers by name, such as "
        '{"accuracy": 0.93}, histories such as {"val_loss": [0.9, 0.8]}, or nothing.'
    )
    return Returned(remarks=[remark])


def _read_mapping(values: Mapping[Any, Any], found: Returned) -> None:
    left_out = []
    for name, value in _leaves(values):
        points = _points(value)
        if points is None:
            left_out.append(f"{name} ({_kind(value)})")
        elif len(found.points) < MAX_METRICS:
            if len(points) > MAX_POINTS:
                found.remarks.append(f"{name} has {len(points):,} values: {MAX_POINTS:,} of them are recorded.")
                points = _thinned(points)
            found.points[name] = points
        else:
            found.remarks.append(f"More than {MAX_METRICS} metrics were returned: the others are not recorded.")
            break
    if left_out:
        shown = ", ".join(left_out[:5]) + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else "")
        found.remarks.append(f"Not recorded as metrics, since they are no numbers: {shown}.")


def _leaves(values: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = redact_text(f"{prefix}{key}"[:500])
        if isinstance(value, Mapping) and value and depth < MAX_DEPTH and not _is_by_step(value):
            yield from _leaves(value, f"{name}/", depth + 1)
        else:
            yield name, value


def _points(value: object) -> Points | None:
    """Steps and values; ``None`` where it is neither a number nor a history of them. A gap (``None``) is left out."""
    number = _number(value)
    if number is not None:
        return [(0, number)]
    if isinstance(value, Mapping):
        items = list(value.items()) if _is_by_step(value) else []
    else:
        items = list(enumerate(_items(value)))
    points: Points = []
    for step, item in items:
        number = _number(item)
        if number is None and item is not None:
            return None
        if number is not None:
            points.append((int(step), number))
    return points or None


def _items(value: object) -> Sequence[Any]:
    shape = getattr(value, "shape", None)
    if shape is not None:
        try:
            listed = getattr(value, "tolist", None) or getattr(value, "numpy")().tolist  # noqa: B009 - TensorFlow's
            return list(listed()) if len(shape) == 1 else []
        except Exception:  # noqa: BLE001 - an array library of its own mind
            return []
    return value if isinstance(value, list | tuple) else []


def _is_by_step(value: Mapping[Any, Any]) -> bool:
    return bool(value) and all(isinstance(key, int) and not isinstance(key, bool) and key >= 0 for key in value)


def _number(value: object) -> float | None:
    """A number as a float; arrays and tensors with one element included."""
    if isinstance(value, str | bytes | complex | list | tuple | Mapping) or value is None:
        return None
    try:
        shape = getattr(value, "shape", None)
        if shape is not None and any(size != 1 for size in shape):
            return None
        item = getattr(value, "item", None)
        value = item() if callable(item) else value
        return None if isinstance(value, str | bytes | complex) else float(value)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - no number, or one beyond floats
        return None


def _thinned(points: Points) -> Points:
    """``MAX_POINTS`` of them at even distances, the last one included."""
    stride = (len(points) - 1) / (MAX_POINTS - 1)
    return [points[round(i * stride)] for i in range(MAX_POINTS)]


def _kind(value: object) -> str:
    name = type(value).__name__
    shape = getattr(value, "shape", None)
    return name if shape is None else f"{name} of shape {tuple(shape)}"
