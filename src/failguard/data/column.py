"""One column of a table as plain arrays, the same whatever library the table comes from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from failguard.data.needs import need

__all__ = ["Column", "Kind", "combine", "from_series"]

Kind = Literal["number", "boolean", "text", "time", "object"]

_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_NULL = np.uint64(0x9E3779B97F4A7C15)


@dataclass(slots=True)
class Column:
    """Values of one column.

    Attributes:
        name: Its name, as text.
        kind: What the values are.
        values: float64 for numbers and booleans (NaN where missing), int64 nanoseconds for times, text as objects,
            else whatever the cells hold.
        missing: bool, whether a cell has no value. NaN counts as missing, as pandas cannot tell it from a null.
        exact: Whole numbers, which float64 would round above 2^53; else ``None``.
        whole: The numbers are of an integer type.
        zone: Of times: the time zone, ``""`` for none.
        types: Of objects: how often each Python type occurs.
    """

    name: str
    kind: Kind
    values: NDArray[Any]
    missing: NDArray[np.bool_]
    exact: NDArray[Any] | None = None
    whole: bool = False
    zone: str = ""
    types: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Any) -> Column:
        """Some of the rows."""
        exact = None if self.exact is None else self.exact[rows]
        return Column(
            self.name, self.kind, self.values[rows], self.missing[rows], exact, self.whole, self.zone, self.types
        )

    def present(self) -> NDArray[Any]:
        """Values that are not missing."""
        return self.values[~self.missing]

    def hashes(self) -> NDArray[np.uint64]:
        """A 64-bit hash of each cell. Equal values have equal hashes, 1 and 1.0 alike."""
        if self.kind in ("text", "object"):
            values = self.values.astype(object)
            if self.kind == "object":
                values = np.asarray([f"{type(v).__name__}:{v!r:.200}" for v in values], dtype=object)
            else:
                values = np.where(self.missing, "", values)
            hashes = need("pandas.util").hash_array(values)
        elif self.exact is not None:
            as_float = self.exact.astype(np.float64)
            # Beyond 2^53 a float is not exact; below, 1 and 1.0 must be equal.
            large = np.abs(as_float) >= 2.0**53
            hashes = np.where(large, self.exact.astype(np.int64).view(np.uint64), (as_float + 0.0).view(np.uint64))
            hashes = _mix(hashes)
        elif self.kind == "time":
            hashes = _mix(self.values.view(np.uint64))
        else:
            hashes = _mix((self.values + 0.0).view(np.uint64))  # + 0.0: no negative zero
        return np.where(self.missing, _NULL, hashes).astype(np.uint64)


def combine(total: NDArray[np.uint64], cells: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash of rows that get one more cell; the order of columns matters."""
    return _mix(total * np.uint64(31) + cells)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def from_series(name: str, series: Any) -> Column:
    """Take a column out of a narwhals series."""
    dtype = series.dtype
    if dtype.is_numeric():
        return _numbers(name, series, whole=dtype.is_integer())
    if str(dtype) == "Boolean":
        missing = _bool(series.is_null().to_numpy())
        values = np.where(missing, np.nan, np.where(missing, False, series.to_numpy()).astype(np.float64))
        return Column(name, "boolean", values, missing)
    if dtype.is_temporal():
        return _times(name, series, dtype)
    if str(dtype) in ("String", "Categorical", "Enum") or str(dtype).startswith("Enum"):
        missing = _bool(series.is_null().to_numpy())
        return _objects(name, np.asarray(series.to_numpy(), dtype=object), missing)
    return _of_unknown_kind(name, series)


def _numbers(name: str, series: Any, *, whole: bool) -> Column:
    missing = _bool(series.is_null().to_numpy())
    raw = series.to_numpy()
    if raw.dtype.kind in "iu":
        return Column(name, "number", raw.astype(np.float64), missing, exact=raw, whole=True)
    values = np.asarray(raw, dtype=np.float64)
    return Column(name, "number", values, missing | np.isnan(values), whole=whole)


def _times(name: str, series: Any, dtype: Any) -> Column:
    missing = _bool(series.is_null().to_numpy())
    raw = series.to_numpy()
    if raw.dtype.kind not in "mM":
        raw = np.asarray(series.to_numpy(), dtype="datetime64[ns]" if "Date" in str(dtype) else object)
    if raw.dtype.kind not in "mM":
        return _objects(name, np.asarray([str(v) for v in raw], dtype=object), missing)
    kind = "datetime64[ns]" if raw.dtype.kind == "M" else "timedelta64[ns]"
    zone = getattr(dtype, "time_zone", None)
    return Column(name, "time", raw.astype(kind).view(np.int64), missing, zone=str(zone or ""))


def _of_unknown_kind(name: str, series: Any) -> Column:
    raw = series.to_numpy()
    if raw.dtype.kind in "fiu":  # pandas' sparse columns
        values = raw.astype(np.float64)
        return Column(name, "number", values, np.isnan(values), whole=raw.dtype.kind != "f")
    raw = np.fromiter((v for v in raw), dtype=object, count=len(raw))
    missing = np.fromiter((_is_missing(v) for v in raw), dtype=bool, count=len(raw))
    return _objects(name, raw, missing)


def _objects(name: str, raw: NDArray[Any], missing: NDArray[np.bool_]) -> Column:
    """Objects as what they are: text, booleans or numbers with gaps, or a mix."""
    types = Counter(map(type, raw[~missing].tolist()))
    names = {t.__name__: n for t, n in types.items()}
    if all(issubclass(t, str) for t in types):
        # Nothing but missing cells says nothing on the kind; text is what a reader of files would call it.
        return Column(name, "text", np.where(missing, "", raw), missing, types=names)
    if all(issubclass(t, bool | np.bool_) for t in types):
        values = np.array([np.nan if m else float(v) for v, m in zip(raw, missing, strict=True)])
        return Column(name, "boolean", values, missing)
    if all(
        issubclass(t, int | float | np.number) and t is not bool and not issubclass(t, complex | np.complexfloating)
        for t in types
    ):
        values = np.array([np.nan if m else float(v) for v, m in zip(raw, missing, strict=True)])
        return Column(name, "number", values, missing | np.isnan(values), types=names if len(types) > 1 else {})
    if all(hasattr(t, "tzinfo") and hasattr(t, "timestamp") for t in types):
        zones = Counter(str(v.tzinfo) for v in raw[~missing])
        names = {f"time in zone {z}" if z != "None" else "time without a zone": n for z, n in zones.items()}
    return Column(name, "object", raw, missing, types=names)


def _is_missing(value: Any) -> bool:
    if value is None:
        return True
    try:
        return bool(value != value)  # NaN and NaT
    except Exception:  # noqa: BLE001 - pandas.NA and arrays have no truth value
        return type(value).__name__ == "NAType"


def _bool(mask: Any) -> NDArray[np.bool_]:
    return np.asarray(mask, dtype=bool)
