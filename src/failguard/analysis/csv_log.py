"""CSV files with a header: Keras' and Lightning's CSVLogger, pandas, spreadsheets, hand-written ones."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from failguard.analysis.files import AS_LATIN_1, encoding_of, not_utf8, trouble_named
from failguard.analysis.log import Log, Row
from failguard.errors import InputError

__all__ = ["read_csv"]

DELIMITERS = ",;\t"
NO_VALUE = frozenset({"", "none", "null", "na", "n/a", "-", "--"})


def read_csv(path: str | os.PathLike[str]) -> Log:
    """Read a CSV file with a header.

    Separators are comma, semicolon (then a comma can be the decimal sign) or tab; the encoding is UTF-8 or UTF-16 with
    a byte order mark; what is not UTF-8 is read as Latin-1. Empty cells are no value; ``nan`` is a value that is not a
    number. A last line that was cut short is read as far as it goes.

    Raises:
        InputError: The file cannot be read, or has no header or no row of numbers.
    """
    file = Path(path)
    with trouble_named(file):
        table = _Table(file, encoding_of(file))
        return table.log()


class _Table:
    """One file: what its header says, and its rows as often as wanted."""

    def __init__(self, file: Path, encoding: str) -> None:
        self.file = file
        self.encoding = encoding
        with self._open() as text:
            first = next(_after_comments(text), "")
            if not first.strip():
                raise InputError(f"{str(file)!r} is empty.")
            self.delimiter = max(DELIMITERS, key=first.count)
        self.header = [name.strip() for name in next(self._cells())]
        _check_header(file, self.header)

    def log(self) -> Log:
        """Go through the file once for what columns there are."""
        header, width = self.header, len(self.header)
        values, repeated = [0] * width, 0
        text: dict[str, str] = {}
        for number, row in self._rows():
            if row is None:
                repeated += 1  # the header again, as when a run was appended
                continue
            for i, cell in enumerate(row):
                if cell is None or isinstance(cell, str):
                    if cell is not None:
                        text.setdefault(header[i], f"row {number}: {cell.strip()[:40]!r}")
                else:
                    values[i] += 1
        kept = [i for i in range(width) if header[i] and values[i]]
        if not kept:
            raise InputError(f"{str(self.file)!r} has no row of numbers below its header ({', '.join(header)[:120]}).")
        text.pop("", None)
        notes = []
        if not_utf8(self.file, self.encoding):
            notes.append("The file is not all UTF-8; the rest was read as Latin-1.")
        if repeated:
            notes.append(f"The header occurs {repeated + 1} times: the file holds more than one run or a resumed one.")

        def numbers() -> Iterator[Row]:
            with trouble_named(self.file):
                for _, row in self._rows():
                    if row is not None:
                        yield [None if isinstance(cell := row[i], str) else cell for i in kept]

        return Log([header[i] for i in kept], numbers, text=text, notes=notes)

    def _open(self) -> TextIO:
        return self.file.open(
            encoding=self.encoding, errors=AS_LATIN_1 if self.encoding != "utf-16" else "strict", newline=""
        )

    def _cells(self) -> Iterator[list[str]]:
        with self._open() as text:
            yield from csv.reader(_after_comments(text), delimiter=self.delimiter, skipinitialspace=True)

    def _rows(self) -> Iterator[tuple[int, list[float | str | None] | None]]:
        """Number of the row, and its cells: numbers, ``None`` for nothing, text; ``None`` for the header again."""
        cells = self._cells()
        next(cells)
        header, width = self.header, len(self.header)
        for number, row in enumerate(cells, start=2):
            if len(row) == width:
                try:
                    yield number, [float(cell) if cell else None for cell in row]
                    continue
                except ValueError:
                    pass
            if not any(map(str.strip, row)):
                continue
            if len(row) > width:
                if any(cell.strip() for cell in row[width:]):
                    raise InputError(
                        f"Row {number} of {str(self.file)!r} has {len(row)} cells, the header {width}. Quote cells "
                        f"that contain {self.delimiter!r}."
                    )
                row = row[:width]
            if row[0].strip() == header[0] and [c.strip() for c in row] == header:
                yield number, None
                continue
            yield number, [self._cell(cell) for cell in row] + [None] * (width - len(row))

    def _cell(self, cell: str) -> float | str | None:
        try:
            return float(cell)
        except ValueError:
            pass
        if self.delimiter == ";" and cell.count(",") == 1 and _is_number(cell.replace(",", ".")):
            return float(cell.replace(",", "."))
        return None if cell.strip().lower() in NO_VALUE else cell


def _after_comments(text: TextIO) -> Iterator[str]:
    """The lines of the file, without blank lines and ``#`` comments before the header."""
    lines = iter(text)
    for line in lines:
        if line.strip() and not line.startswith("#"):
            yield line
            break
    yield from lines


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


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.strip().lower() not in ("nan", "inf", "infinity")  # a column may be called so
