"""Moments as people name them: a date, a time, or how long ago. And back."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

from failguard.errors import InputError

__all__ = ["ago", "duration_text", "local_text", "moment"]

_UNITS_S = {"s": 1, "min": 60, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)")
_STEPS = ((86_400 * 2, 86_400, "d"), (3_600 * 2, 3_600, "h"), (120, 60, "min"), (0, 1, "s"))


def moment(value: datetime | date | str | None, now: datetime, *, is_end: bool = False) -> datetime | None:
    """A moment with its zone.

    Args:
        value: A ``datetime``, or text: ``"7d"``, ``"12h"``, ``"30min"``, ``"2w"`` before now, or a date or a time in
            ISO 8601. Without a zone it is local time.
        now: The present.
        is_end: A date alone is meant with its whole day.

    Raises:
        InputError: It cannot be understood.
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.astimezone()
    if isinstance(value, date):
        return datetime.combine(value + timedelta(days=int(is_end)), time()).astimezone()
    text = value.strip()
    try:
        found = _AGO.fullmatch(text)
        if found:
            return now - timedelta(seconds=float(found[1]) * _UNITS_S[found[2]])
        if text in ("today", "yesterday"):
            day = now.astimezone().date() - timedelta(days=int(text == "yesterday"))
            return moment(day, now, is_end=is_end)
        if len(text) <= 10:
            return moment(date.fromisoformat(text), now, is_end=is_end)
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{value!r} is no time that is understood. Give how long ago (7d, 12h, 30min, 2w), a date (2026-03-01) or "
            "a time (2026-03-01T14:00, with +02:00 for a zone other than the local one)."
        ) from error


def duration_text(seconds: float) -> str:
    """A duration in one unit: ``"3 d"``, ``"5 h"``, ``"12 min"``, ``"40 s"``.

    Args:
        seconds: The duration.
    """
    for least, unit_s, unit in _STEPS:
        if seconds >= least:
            return f"{seconds / unit_s:.0f} {unit}"
    return "0 s"


def ago(then: datetime | None, now: datetime | None = None) -> str:
    """How long ago something was, in words.

    Args:
        then: The moment; ``None``: not known.
        now: The present.
    """
    if then is None:
        return "at a time that is not known"
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    return f"{duration_text(seconds)} ago" if seconds >= 0 else f"in {duration_text(-seconds)}"


def local_text(then: datetime | None) -> str:
    """A moment in local time, to the minute; ``"-"`` where it is not known.

    Args:
        then: The moment.
    """
    # A run without a start has that of the epoch.
    return "-" if then is None or then.timestamp() <= 0 else then.astimezone().strftime("%Y-%m-%d %H:%M")
