"""CSV files with a header: Keras' and Lightning's CSVLogger, pandas, spreadsheets, hand-written ones."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from failguard.analysis.log import Column, Log
from failguard.errors import InputError

__all__ = ["read_csv"]

DELIMITERS = ",;\t"
NO_VALUE = frozenset({"", "none", "null", "na", "n/a", "-", "--"})


def read_csv(path: str | os.PathLike[str]) -> Log:
    """Read a CSV file with a header.

    Separators are comma, semicolon (then a comma can be the decimal sign) or tab; the encoding is UTF-8, UTF-16 with a
    byte order mark, or else Latin-1. Empty cells are no value; ``nan`` is a value that is not a number. A last line
    that was cut short is read as far as it goes.

    Raises:
        InputError: The file cannot be read, or has no header or no row of numbers.
    """
    file = Path(path)
    try:
        with file.open("rb") as raw:
            start = raw.read(4096)
        notes: list[str] = []
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            return _read(file, "utf-16", notes)
        if b"\0" in start:
            raise InputError(f"{str(file)!r} is no text file. failguard.analyze reads CSV files with a header.")
        try:
            return _read(file, "utf-8-sig", notes)
        except UnicodeDecodeError:
            return _read(file, "latin-1", ["The file is not UTF-8; it was read as Latin-1."])
    except FileNotFoundError:
        raise InputError(f"{str(file)!r} does not exist. Check the path.") from None
    except IsADirectoryError:
        raise InputError(_is_a_folder(file)) from None
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"{str(file)!r} cannot be read: {error}.") from error


def _is_a_folder(folder: Path) -> str:
    found = sorted(folder.glob("*.csv"))
    remedy = f"Did you mean {str(found[0])!r}?" if found else "Hand in the CSV file in it."
    return f"{str(folder)!r} is a folder. {remedy}"


def _read(file: Path, encoding: str, notes: list[str]) -> Log:
    with file.open(encoding=encoding, newline="") as text:
        lines = _after_comments(text)
        first = next(lines, "")
        if not first.strip():
            raise InputError(f"{str(file)!r} is empty.")
        delimiter = max(DELIMITERS, key=first.count)
        reader = csv.reader(_chain(first, lines), delimiter=delimiter, skipinitialspace=True)
        header = [name.strip() for name in next(reader)]
        _check_header(file, header)
        return _columns(file, header, reader, delimiter, notes)


def _after_comments(text: TextIO) -> Iterator[str]:
    """The lines of the file, without blank lines and ``#`` comments before the header."""
    lines = iter(text)
    for line in lines:
        if line.strip() and not line.startswith("#"):
            yield line
            break
    yield from lines


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _check_header(file: Path, header: list[str]) -> None:
    if any(_is_number(cell) for cell in header):
        raise InputError(
            f"The first line of {str(file)!r} holds numbers ({', '.join(header[:4])}), so it is no header. Add a first "
            "line with the column names, such as epoch,train_loss,val_loss."
        )
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise InputError(
            f"The header of {str(file)!r} names {twice[0]!r} more than once. Give each column its own name."
        )


def _columns(file: Path, header: list[str], reader: Iterator[list[str]], delimiter: str, notes: list[str]) -> Log:
    columns: list[Column] = [[] for _ in header]
    text: dict[str, str] = {}
    repeated = 0
    for number, row in enumerate(reader, start=2):
        if not any(map(str.strip, row)):
            continue
        if len(row) > len(header):
            if any(cell.strip() for cell in row[len(header) :]):
                raise InputError(
                    f"Row {number} of {str(file)!r} has {len(row)} cells, the header {len(header)}. Quote cells that "
                    f"contain {delimiter!r}."
                )
            row = row[: len(header)]
        if row[0].strip() == header[0] and [c.strip() for c in row] == header:
            repeated += 1  # the header again, as when a run was appended
            continue
        row = row + [""] * (len(header) - len(row))
        for name, column, cell in zip(header, columns, row, strict=True):
            try:
                column.append(float(cell))
            except ValueError:
                column.append(_other(cell, delimiter))
                if column[-1] is None and cell.strip().lower() not in NO_VALUE:
                    text.setdefault(name, f"row {number}: {cell.strip()[:40]!r}")
    if repeated:
        notes.append(f"The header occurs {repeated + 1} times: the file holds more than one run or a resumed one.")
    named = {name: column for name, column in zip(header, columns, strict=True) if name}
    found = {name: column for name, column in named.items() if any(v is not None for v in column)}
    if not found:
        raise InputError(f"{str(file)!r} has no row of numbers below its header ({', '.join(header)[:120]}).")
    return Log(found, text=text, notes=notes)


def _other(cell: str, delimiter: str) -> float | None:
    """A cell that Python's own reading refuses: with a decimal comma, or no number."""
    if delimiter == ";" and cell.count(",") == 1 and _is_number(cell.replace(",", ".")):
        return float(cell.replace(",", "."))
    return None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.strip().lower() not in ("nan", "inf", "infinity")  # a column may be called so
