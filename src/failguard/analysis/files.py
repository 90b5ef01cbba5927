"""Text files as people have them: encodings that are not what they should be, and errors that name the file."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from failguard.errors import InputError

__all__ = ["AS_LATIN_1", "encoding_of", "not_utf8", "trouble_named"]

AS_LATIN_1 = "failguard_latin_1"  # an error handler of codecs: bytes that are not UTF-8 are read as Latin-1
START_BYTES = 4096
CHUNK_BYTES = 1 << 20


def encoding_of(file: Path) -> str:
    """The encoding by the byte order mark, else UTF-8.

    Raises:
        InputError: It is no text file.
    """
    try:
        codecs.lookup_error(AS_LATIN_1)
    except LookupError:
        codecs.register_error(AS_LATIN_1, _as_latin_1)
    with file.open("rb") as raw:
        start = raw.read(START_BYTES)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if b"\0" in start:
        raise InputError(f"{str(file)!r} is no text file, and no log that failguard.analyze can read.")
    return "utf-8-sig"


def not_utf8(file: Path, encoding: str) -> bool:
    """Whether bytes had to be read as Latin-1."""
    if encoding == "utf-16":
        return False
    decoder = codecs.getincrementaldecoder("utf-8")()
    with file.open("rb") as raw:
        try:
            while chunk := raw.read(CHUNK_BYTES):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return True
    return False


@contextmanager
def trouble_named(file: Path) -> Iterator[None]:
    """What the system or a decoder raises becomes an :class:`InputError` that names the file."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(f"{str(file)!r} does not exist. Check the path.") from None
    except IsADirectoryError:
        raise InputError(f"{str(file)!r} is a folder. Hand in a file in it.") from None
    except (OSError, UnicodeError, csv.Error) as error:
        raise InputError(f"{str(file)!r} cannot be read: {error}.") from error


def _as_latin_1(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end
