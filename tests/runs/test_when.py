from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from failguard.errors import InputError
from failguard.runs.when import ago, duration_text, local_text, moment

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nine hours ahead of UTC, no summer time."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
@pytest.mark.parametrize(
    ("value", "is_end", "wanted"),
    [
        ("7d", False, "2026-03-03T12:00+00:00"),
        ("1.5h", False, "2026-03-10T10:30+00:00"),
        ("30min", False, "2026-03-10T11:30+00:00"),
        ("2w", True, "2026-02-24T12:00+00:00"),
        ("2026-03-01", False, "2026-02-28T15:00+00:00"),
        ("2026-03-01", True, "2026-03-01T15:00+00:00"),  # its whole day
        (date(2026, 3, 1), True, "2026-03-01T15:00+00:00"),
        ("2026-03-01T14:00", False, "2026-03-01T05:00+00:00"),
        ("2026-03-01T14:00+02:00", True, "2026-03-01T12:00+00:00"),
        ("2026-03-01T14:00Z", False, "2026-03-01T14:00+00:00"),
        ("today", False, "2026-03-09T15:00+00:00"),
        ("yesterday", True, "2026-03-09T15:00+00:00"),
        (datetime(2026, 3, 1, 14), False, "2026-03-01T05:00+00:00"),
        (datetime(2026, 3, 1, 14, tzinfo=timezone(timedelta(hours=2))), False, "2026-03-01T12:00+00:00"),
    ],
)
def test_moments(value: Any, is_end: bool, wanted: str) -> None:
    assert moment(value, NOW, is_end=is_end) == datetime.fromisoformat(wanted)


@pytest.mark.usefixtures("in_tokyo")
def test_times_are_shown_as_local_ones() -> None:
    assert local_text(datetime(2026, 3, 1, 20, tzinfo=UTC)) == "2026-03-02 05:00"
    assert local_text(None) == local_text(datetime.fromtimestamp(0, UTC)) == "-"


def test_nothing_stays_nothing() -> None:
    assert moment(None, NOW) is None


@pytest.mark.parametrize("value", ["", "soon", "7 days ago", "-3d", "2026-13-01", "10:00", "1e99d", "9" * 30 + "d"])
def test_what_is_no_time(value: str) -> None:
    with pytest.raises(InputError, match="7d"):
        moment(value, NOW)


def test_durations() -> None:
    texts = [duration_text(s) for s in (0, 40, 119, 120, 7_199, 7_200, 86_400, 200_000)]
    assert texts == ["0 s", "40 s", "119 s", "2 min", "120 min", "2 h", "24 h", "2 d"]
    assert ago(NOW - timedelta(hours=3), NOW) == "3 h ago"
    assert ago(NOW + timedelta(hours=3), NOW) == "in 3 h"
    assert "not known" in ago(None)
