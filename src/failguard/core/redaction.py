"""Secrets are taken out before anything is written or sent.

Which keys name secrets is decided in ``secret_keys.py``. In text, ``key=value``, ``key: value``, ``"key": "value"`` and
``--key value`` follow the same rules; user info in URLs and well-known shapes of tokens go whatever their key is.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, datetime
from enum import Enum
from pathlib import PurePath
from typing import Any

from failguard.core.secret_keys import is_secret_key, words

__all__ = ["REDACTED", "cut", "redact", "redact_text", "short"]

REDACTED = "[redacted]"

MAX_TEXT = 10_000  # characters of one string
MAX_ITEMS = 1_000  # of one list or mapping
MAX_NODES = 20_000  # values in all
MAX_DEPTH = 20


# Text. Every pattern is linear: repeats are possessive or of a bounded length, and what was read is not read again.

_KEY = re.compile(
    r"""(?<![\w.\-])(?P<flag>--)?(?P<key>[^\W\d][\w.\-]*+)
        (?:\\{0,8}["'])?\]?                                  # the end of a quoted key, or of environ["KEY"]
        (?:(?P<separator>\s{0,4}(?::\s{0,4}(?:\w{1,10}\.)?(?:str|int|bytes|bool|Any|SecretStr|Optional|Union)\b
                                 (?:\[[\w.,\ ]{0,60}\])?(?:\s\|\s\w{1,40}){0,3}\s{0,4}=(?!=)  # `password: str = `
                        |[=!]=|:=|=>|[:=])[^\S\n]{0,8})
          |(?P<comma>,\s{0,4}(?=\\{0,8}["']))
          |(?P<space>[^\S\n]{1,8}(?![\-\s])))""",
    re.VERBOSE,
)
_QUOTE = re.compile(r"""[rbfuRBFU]{0,2}(?P<q>\\{0,8}(?:\"{3}|'{3}|["']))""")
_BARE = re.compile(r"""(?:[^\s"'&,;)\]}]|[,;)\]}](?![\s"'&,;)\]}]|\Z|[\w.\-]{1,64}\s?[=:]))++""")
_HEADER = re.compile(r"""[^\r\n"']*+""")
_PREVIOUS_WORD = re.compile(r"(\w+)\s\Z")
_COMPLAINTS = words("missing unexpected duplicate unknown primary foreign")  # "Missing key: 'layer.weight'" names a key
_HEADER_WORD = re.compile(r"authorization|cookie", re.IGNORECASE)
# What stands after a key in source code and type hints without being a secret.
_PLAIN = words("None True False null true false str int float bytes bool Any object lambda") | {"", REDACTED, "..."}
_URL = re.compile(r"""://[^\s"'<>]*+""")
_PORT = re.compile(r"[^:]*:\d{1,5}\Z")
_BEARER = re.compile(r"(?i)\b(bearer[^\S\n]{1,4})(?!token\b|auth)[^\s\"',;)]++")
_SHAPES = re.compile(
    r"""(?<![A-Za-z0-9_\-])(?:
        gh[pousr]_[A-Za-z0-9]{10,} | github_pat_\w{20,} | glpat-[\w\-]{16,}
      | sk-(?=[\w\-]*\d)[\w\-]{12,} | [srp]k_(?:live|test)_\w{10,}
      | (?:AKIA|ASIA)[A-Z0-9]{12,}
      | hf_[A-Za-z0-9]{16,}
      | eyJ[\w\-]{8,}\.[\w\-]+(?:\.[\w\-]*)?
      | xox[abeoprs]-[\w\-]{10,} | AIza[\w\-]{30,} | dapi[0-9a-f]{32} | npm_[A-Za-z0-9]{30,} | pypi-[\w\-]{30,}
    )""",
    re.VERBOSE,
)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----")


def redact_text(text: str) -> str:
    """Hide secrets in a message, a traceback, a source line or an address.

    Args:
        text: Any text. Time grows with its length only.

    Returns:
        The text with ``[redacted]`` in place of each secret.
    """
    return _SHAPES.sub(REDACTED, _BEARER.sub(rf"\1{REDACTED}", _redact_pairs(_redact_urls(_redact_pem(text)))))


def _redact_pem(text: str) -> str:
    parts, at = [], 0
    while (begin := _PRIVATE_KEY.search(text, at)) is not None:
        end = re.compile(r"-----END [A-Z ]{0,40}-----").search(text, begin.end())
        parts += [text[at : begin.start()], REDACTED]
        at = len(text) if end is None else end.end()
    return "".join(parts) + text[at:] if parts else text


def _redact_urls(text: str) -> str:
    return _URL.sub(lambda m: "://".join(["", *map(_without_user_info, m.group()[3:].split("://"))]), text)


def _without_user_info(rest: str) -> str:
    """The rest of an address after ``://``: what stands before the last ``@`` of the authority goes."""
    head, at, tail = rest.rpartition("@")
    if not at:
        return rest
    end = re.search(r"[/?#]", head)
    if end is None or (":" in head[: end.start()] and not _PORT.match(head[: end.start()])):
        return f"{REDACTED}@{tail}"  # a slash within a password counts as part of it, after a port it does not
    _, at, host = head[: end.start()].rpartition("@")
    return f"{REDACTED}@{host}{rest[end.start() :]}" if at else rest


def _redact_pairs(text: str) -> str:
    parts: list[str] = []
    at = 0
    while (found := _KEY.search(text, at)) is not None:
        secret = _secret_after(text, found)
        if secret is None:
            # Only the key was read: what looks like its value may be a key itself.
            parts.append(text[at : found.end("key")])
            at = found.end("key")
            continue
        parts += [text[at : secret[0]], REDACTED]
        at = secret[1]
    return "".join(parts) + text[at:] if parts else text


def _secret_after(text: str, found: re.Match[str]) -> tuple[int, int] | None:
    """Start and end of the secret that follows a key; ``None`` where there is none."""
    key = found["key"]
    if not is_secret_key(key) and not (key == "sig" and text[found.start() - 1 : found.start()] in ("?", "&")):
        return None
    if found["separator"] is None and not found["flag"] and not (found["comma"] and _strong(key)):
        return None
    if key == "key" and (found["separator"] or "").startswith(":"):
        before = _PREVIOUS_WORD.search(text[max(found.start() - 24, 0) : found.start()])
        if before is not None and before[1].lower() in _COMPLAINTS:
            return None
    at = found.end()
    quote = _QUOTE.match(text, at)
    if quote is not None:
        return _quoted(text, quote)
    if text[at : at + 1] in ("{", "[", "("):
        return at, _bracketed(text, at)
    value = (_HEADER if _HEADER_WORD.search(key) else _BARE).match(text, at)
    if value is None or value.group().rstrip(")]},;:") in _PLAIN:
        return None
    return at, value.end()


def _strong(key: str) -> bool:
    """Whether a key is secret by more than its last word."""
    return is_secret_key(f"{key}_file")


def _quoted(text: str, quote: re.Match[str]) -> tuple[int, int] | None:
    """The content of a quoted value. One that is not closed ends with its line."""
    mark, start = quote["q"], quote.end()
    line_end = len(text) if len(mark.lstrip("\\")) == 3 else text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    at = start
    while True:
        close = text.find(mark, at, line_end)
        if close < 0:
            end = line_end
            break
        slashes = close - len(text[at:close].rstrip("\\")) - at
        if slashes % 2 == 0:  # else the quote itself is escaped
            end = close
            break
        at = close + len(mark)
    return None if end == start else (start, end)


def _bracketed(text: str, start: int) -> int:
    """End of a bracketed value: its closing bracket, or that of the line."""
    depth = 0
    for mark in re.compile(r"[\[({\])}\n]").finditer(text, start):
        if mark.group() == "\n":
            return mark.start()
        depth += 1 if mark.group() in "[({" else -1
        if depth == 0:
            return mark.end()
    return len(text)


# Values.


def cut(text: str, limit: int) -> str:
    """The text, or its beginning with a mark that says how much is missing. At most ``limit`` characters."""
    if len(text) <= limit:
        return text
    mark = f"... [cut, {len(text):,} characters]"
    return text[: max(limit - len(mark), 0)] + mark


def short(value: object, limit: int = 60) -> str:
    """A value in a message: its representation without secrets, at most ``limit`` characters."""
    safe = redact(value)
    text = safe if isinstance(safe, str) and not isinstance(value, str) else repr(safe)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def redact(value: Any) -> Any:
    """A copy of a value that is safe to write and send: plain, bounded, without secrets.

    Mappings (with text keys), lists, text, numbers, booleans and ``None`` come back as such. Anything else becomes
    short text: a tensor its shape and type, a function or class its name, a path its text. Long text and lists are
    cut and marked so; a value that contains itself ends in ``"<cycle>"``.

    Args:
        value: Anything. It is not changed.

    Returns:
        The copy.
    """
    return _Copy().of(value, 0)


class _Copy:
    """One call of :func:`redact`: what it is inside of, and how many values it may still copy."""

    def __init__(self) -> None:
        self.inside: set[int] = set()
        self.left = MAX_NODES

    def of(self, value: Any, depth: int) -> Any:
        self.left -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Enum):
            return self.of(value.value, depth + 1) if depth < MAX_DEPTH else _name(value)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, str):
            # Cut once before, so that time is bounded, and once after, so that no secret is cut in two.
            return cut(redact_text(str(value)[: 2 * MAX_TEXT]) + str(value)[2 * MAX_TEXT :], MAX_TEXT)
        try:
            return self._container(value, depth)
        except Exception:  # noqa: BLE001  # a value's own methods may raise anything
            return _name(value)

    def _container(self, value: Any, depth: int) -> Any:
        if isinstance(value, types.SimpleNamespace) or type(value).__qualname__ == "Namespace":  # argparse's
            value = vars(value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        is_mapping = isinstance(value, Mapping)
        if not is_mapping and not _is_list(value):
            return self._text(value, depth)
        if id(value) in self.inside:
            return "<cycle>"
        if depth >= MAX_DEPTH or self.left <= 0:
            return f"<{type(value).__name__} of {len(value):,}, cut>"
        self.inside.add(id(value))
        try:
            return self._mapping(value, depth) if is_mapping else self._list(value, depth)
        finally:
            self.inside.discard(id(value))

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        copied: dict[str, Any] = {}
        for i, (key, item) in enumerate(value.items()):
            if i >= MAX_ITEMS:
                copied["..."] = f"[cut, {len(value):,} entries]"
                break
            name = self.of(key, MAX_DEPTH) if isinstance(key, str) else str(self.of(key, MAX_DEPTH))
            hidden = isinstance(key, str) and is_secret_key(key) and not (item is None or isinstance(item, bool))
            copied[name] = REDACTED if hidden and item != "" else self.of(item, depth + 1)
        return copied

    def _list(self, value: Any, depth: int) -> list[Any]:
        items = list(value) if isinstance(value, AbstractSet) else value
        if len(items) == 2 and isinstance(items[0], str) and _strong_pair(items):  # a header or an environment entry
            return [items[0], REDACTED]
        copied: list[Any] = []
        previous: Any = None
        for i, item in enumerate(items):
            if i >= MAX_ITEMS:
                copied.append(f"... [cut, {len(items):,} items]")
                break
            flag = isinstance(previous, str) and previous.startswith("-") and is_secret_key(previous)
            copied.append(REDACTED if flag and isinstance(item, str) else self.of(item, depth + 1))
            previous = item
        return copied

    def _text(self, value: Any, depth: int) -> Any:
        if isinstance(value, (PurePath, range, complex)):
            return self.of(str(value), depth)
        if isinstance(value, (date, datetime)):
            return value.isoformat()
        if isinstance(value, (bytes, bytearray, memoryview)):
            return f"<{type(value).__name__} of {len(value):,}>"
        if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item"):
            plain = value.item()
            return self.of(plain, depth) if isinstance(plain, (bool, int, float, str)) else _name(value)
        shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
        if not isinstance(value, type) and shape is not None and dtype is not None:
            return cut(f"<{type(value).__name__} of shape {tuple(shape)}, {dtype}>", 200)
        return _name(value)


def _is_list(value: Any) -> bool:
    text_like = isinstance(value, (bytes, bytearray, memoryview, range))
    return isinstance(value, (Sequence, AbstractSet)) and not text_like


def _strong_pair(items: Sequence[Any]) -> bool:
    key, item = items[0], items[1]
    return len(key) <= 100 and isinstance(item, str) and is_secret_key(key) and (_strong(key) or key.startswith("-"))


def _name(value: Any) -> str:
    """What a value is, without asking the value itself."""
    named = value if isinstance(value, type) or hasattr(value, "__qualname__") else type(value)
    name = f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', type(value).__name__)}".lstrip(".")
    return f"<{cut(name, 200)}>"
