"""Text and numbers for people."""

from __future__ import annotations

import pytest

from failguard.report.text import moment


@pytest.mark.parametrize(
    ("iso", "shown"),
    [
        ("2026-11-25T13:27:58.812+00:00", "2026-11-25T13:27:58+00:00"),
        ("2026-11-25T13:27:58+00:00", "2026-11-25T13:27:58+00:00"),
        ("of v1.5\x1b[31m", "of v1.5 [31m"),
        ("", ""),
    ],
)
def test_a_moment_is_shown_to_the_second(iso: str, shown: str) -> None:
    assert moment(iso) == shown
