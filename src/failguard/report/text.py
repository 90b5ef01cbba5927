"""Text and numbers for people, safe to print whatever they hold. Loads next to nothing."""

from __future__ import annotations

import re

__all__ = ["block", "duration", "moment", "one_line", "percent"]

# Control characters could steer a terminal; marks of writing direction could make text read as something else.
_STEERING = "\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROL = re.compile(f"[\x00-\x1f{_STEERING}]+")
_CONTROL_IN_BLOCKS = re.compile(f"[\x00-\x08\x0b-\x1f{_STEERING}]+")
_FRACTION = re.compile(r"(?<=:\d\d)\.\d+")  # of a second


def one_line(text: str, limit: int = 600) -> str:
    """Text from anywhere as one line that is safe to print, at most ``limit`` characters."""
    text = " ".join(_CONTROL.sub(" ", text[: 4 * limit]).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def block(text: str, limit: int) -> str:
    """Text of many lines, such as a traceback, that is safe to print: its last ``limit`` characters."""
    text = _CONTROL_IN_BLOCKS.sub(" ", text)
    return text if len(text) <= limit else f"... {len(text) - limit:,} characters before\n{text[-limit:]}"


def duration(seconds: float) -> str:
    """A time as people say it: ``"0.42 s"``, ``"37 s"``, ``"12 min"``, ``"3.4 h"``."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"


def moment(iso: str) -> str:
    """A moment in ISO 8601, to the second."""
    return _FRACTION.sub("", one_line(iso, 40))


def percent(share: float) -> str:
    """A share, 0 to 1, in percent: ``"0.31 %"``, ``"12 %"``."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
