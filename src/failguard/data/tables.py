"""Whatever holds a table, read as chunks of plain columns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from failguard.core.redaction import short
from failguard.data.column import Column, from_series
from failguard.data.needs import need
from failguard.errors import InputError
from failguard.report.summary import one_line

__all__ = ["Table", "read_table"]

CHUNK_CELLS = 4_000_000  # of a chunk; 32 MB of numbers
LARGEST_CHUNK = 262_144  # rows
KINDS = (
    "a pandas, polars or Arrow table, a two-dimensional NumPy array, a mapping from column name to values, a "
    "scikit-learn bunch, or the path of a .csv, .parquet or .feather file"
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table that can be read from the start as often as needed.

    Attributes:
        names: Of the columns, as text.
        chunks: Starts reading; gives lists of columns, in the order of ``names``, of at most ``LARGEST_CHUNK`` rows.
        source: What it was read from, for people.
        label: Column that the source itself says is the label.
    """

    names: list[str]
    chunks: Callable[[], Iterator[list[Column]]]
    source: str
    label: str | None = None


def read_table(data: Any, what: str = "the dataset") -> Table:
    """Open a table.

    Args:
        data: See ``KINDS``.
        what: How to call it in errors.

    Raises:
        InputError: It is no table, is empty, cannot be read, or has two columns of one name. The message says which.
    """
    if isinstance(data, Table):
        return data
    if isinstance(data, str | os.PathLike):
        return _file(Path(data), what)
    if _is_sparse(data):
        raise InputError(
            f"{what} is a sparse matrix, which the checks cannot read. Give .toarray() of some of its rows."
        )
    if isinstance(data, Mapping):
        return _mapping(data, what)
    module = type(data).__module__.partition(".")[0]
    if type(data).__name__ == "LazyFrame":
        raise InputError(f"{what} is a lazy frame. Collect it first: .collect()")
    if module in ("pandas", "polars", "pyarrow", "modin", "cudf", "narwhals"):
        return _frame(data, what)
    if hasattr(data, "__array__") or isinstance(data, list | tuple):
        return _array(data, what)
    raise InputError(f"{what} is {type(data).__name__}, which is no table. Give {KINDS}.")


def _frame(data: Any, what: str, label: str | None = None, source: str | None = None) -> Table:
    names = (
        [str(n) for n in (data.column_names if hasattr(data, "column_names") else data.columns)]
        if (hasattr(data, "columns") or hasattr(data, "column_names"))
        else None
    )
    if names is None:  # a series
        raise InputError(f"{what} is a single column. Give a table, such as .to_frame().")
    _check_names(names, what)
    frame = need("narwhals").from_native(data, eager_only=True)
    rows = len(frame)
    if rows == 0:
        raise InputError(f"{what} has no rows.")
    step = _chunk_rows(len(names))

    def chunks() -> Iterator[list[Column]]:
        for start in range(0, rows, step):
            part = frame[start : start + step]
            yield [from_series(n, s) for n, s in zip(names, part.iter_columns(), strict=True)]

    return Table(names, chunks, source or f"{type(data).__module__.partition('.')[0]} {type(data).__name__}", label)


def _mapping(data: Mapping[Any, Any], what: str) -> Table:
    if hasattr(data, "data") and hasattr(data, "target"):
        return _bunch(data, what)
    if not data:
        raise InputError(f"{what} has no columns.")
    lengths = {}
    for name, values in data.items():
        try:
            shape = np.shape(values)
        except ValueError as error:
            raise InputError(f"{what}: column {name!r} is ragged. Give one value a row.") from error
        if len(shape) != 1:
            raise InputError(
                f"{what}: {name!r} has the shape {shape}, but a column is one value a row. Give a mapping from column "
                "name to a list or a one-dimensional array; for batches of several inputs, DataChecks().look_at(x, y)."
            )
        lengths[str(name)] = shape[0]
    if len(set(lengths.values())) > 1:
        text = ", ".join(f"{n}: {k}" for n, k in list(lengths.items())[:10])
        raise InputError(f"{what} has columns of different lengths ({text}). Give one value a row.")
    return _frame(need("pandas").DataFrame(dict(data)), what, source="mapping of columns")


def _bunch(bunch: Any, what: str) -> Table:
    """A scikit-learn bunch: its frame, else its data and target side by side."""
    pandas = need("pandas")
    frame = bunch.get("frame")
    target = bunch.get("target")
    names = bunch.get("target_names")
    if frame is None:
        data = bunch.data
        if getattr(data, "ndim", 0) != 2 or _is_sparse(data):
            raise InputError(f"{what} is a bunch whose data is no dense two-dimensional array. Give a table of it.")
        features = bunch.get("feature_names")
        if features is None or len(features) != data.shape[1]:
            features = [f"x{i}" for i in range(data.shape[1])]
        frame = pandas.DataFrame(np.asarray(data), columns=list(features))
        target = None if target is None else np.asarray(target)
        if target is not None and target.ndim == 1:
            frame["target"] = target
        elif target is not None and target.ndim == 2:
            titles = names if names is not None and len(names) == target.shape[1] else range(target.shape[1])
            for i, title in enumerate(titles):
                frame[f"target {title}"] = target[:, i]
    label = "target" if "target" in frame.columns else None
    if label is None and getattr(target, "name", None) in frame.columns:
        label = str(target.name)
    return _frame(frame, what, label=label, source="scikit-learn bunch")


def _array(data: Any, what: str) -> Table:
    try:
        array = np.asarray(data)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{what} cannot be read as an array ({one_line(str(error), 120)}). Give {KINDS}.") from error
    if array.dtype.names:
        return _mapping({name: array[name] for name in array.dtype.names}, what)
    if array.ndim != 2:
        hint = "Images and other batches: DataChecks().look_at(x, y)." if array.ndim > 2 else "Give one row a sample."
        raise InputError(f"{what} is an array of shape {array.shape}, but a table has two dimensions. {hint}")
    if array.shape[1] == 0 or len(array) == 0:
        raise InputError(f"{what} has no {'columns' if array.shape[1] == 0 else 'rows'}: its shape is {array.shape}.")
    names = [f"x{i}" for i in range(array.shape[1])]
    step = _chunk_rows(len(names))
    pandas = need("pandas")
    narwhals = need("narwhals")

    def chunks() -> Iterator[list[Column]]:
        for start in range(0, len(array), step):
            part = narwhals.from_native(pandas.DataFrame(array[start : start + step]), eager_only=True)
            yield [from_series(n, s) for n, s in zip(names, part.iter_columns(), strict=True)]

    return Table(names, chunks, "array")


def _file(path: Path, what: str) -> Table:
    kind = path.suffix.lower()
    openers = {".csv": _csv, ".tsv": _csv, ".parquet": _parquet, ".pq": _parquet, ".feather": _arrow, ".arrow": _arrow}
    if path.name.lower().endswith(".csv.gz"):
        kind = ".csv"
    if not path.exists():
        raise InputError(f"There is no file {short(str(path), 200)}.")
    if path.is_dir() or kind not in openers:
        raise InputError(f"{short(str(path), 200)} cannot be read as a table. Give a .csv, .parquet or .feather file.")
    return openers[kind](path, what)


def _csv(path: Path, what: str) -> Table:
    pandas = need("pandas")
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        head = pandas.read_csv(path, sep=separator, nrows=1, header=None, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"{short(str(path), 200)} cannot be read as CSV: {one_line(str(error), 200)}") from error
    names = [str(n) for n in head.iloc[0]]  # pandas would number a name that comes twice
    _check_names(names, what)
    step = _chunk_rows(len(names))

    def chunks() -> Iterator[list[Column]]:
        narwhals = need("narwhals")
        try:
            with pandas.read_csv(path, sep=separator, chunksize=step, low_memory=False) as reader:
                for frame in reader:
                    part = narwhals.from_native(frame, eager_only=True)
                    yield [from_series(n, s) for n, s in zip(names, part.iter_columns(), strict=True)]
        except (pandas.errors.ParserError, UnicodeDecodeError, ValueError) as error:
            raise InputError(f"{short(str(path), 200)} cannot be read as CSV: {one_line(str(error), 200)}") from error

    return Table(names, chunks, str(path))


def _parquet(path: Path, what: str) -> Table:
    parquet, arrow = need("pyarrow.parquet"), need("pyarrow")
    try:
        with parquet.ParquetFile(path) as file:
            names = [str(n) for n in file.schema_arrow.names]
            rows = file.metadata.num_rows
    except arrow.ArrowException as error:
        raise InputError(f"{short(str(path), 200)} cannot be read as Parquet: {one_line(str(error), 200)}") from error
    _check_names(names, what)
    if rows == 0:
        raise InputError(f"{what} has no rows.")
    step = _chunk_rows(len(names))

    def chunks() -> Iterator[list[Column]]:
        narwhals = need("narwhals")
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(batch_size=step):
                part = narwhals.from_native(arrow.Table.from_batches([batch]), eager_only=True)
                yield [from_series(n, s) for n, s in zip(names, part.iter_columns(), strict=True)]

    return Table(names, chunks, str(path))


def _arrow(path: Path, what: str) -> Table:
    feather, arrow = need("pyarrow.feather"), need("pyarrow")
    try:
        return _frame(feather.read_table(path, memory_map=True), what, source=str(path))
    except arrow.ArrowException as error:
        raise InputError(f"{short(str(path), 200)} cannot be read as Arrow: {one_line(str(error), 200)}") from error


def _check_names(names: list[str], what: str) -> None:
    if not names:
        raise InputError(f"{what} has no columns.")
    twice = sorted({n for n in names if names.count(n) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise InputError(f"{what} has more than one column of the name {short(twice[0], 80)}. Rename one of them.")


def _chunk_rows(columns: int) -> int:
    return max(1_000, min(LARGEST_CHUNK, CHUNK_CELLS // max(columns, 1)))


def _is_sparse(data: Any) -> bool:
    return type(data).__module__.startswith("scipy.sparse") or bool(getattr(data, "is_sparse", False))
