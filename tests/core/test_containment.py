"""Errors of failguard's own stay with failguard."""

from __future__ import annotations

import logging

import pytest

from failguard.core.containment import Containment
from failguard.errors import InputError


def broken() -> None:
    raise ValueError("token=abc123secret in the message")


def test_a_part_that_raises_is_retired_named_and_logged_once(contained: None, caplog: pytest.LogCaptureFixture) -> None:
    containment = Containment()
    calls = []

    def part() -> None:
        calls.append(1)
        broken()

    with caplog.at_level(logging.WARNING, "failguard"):
        assert containment.run("detector x", part) is None
        assert containment.run("detector x", part) is None
    assert len(calls) == 1
    assert len(caplog.records) == 1
    (error,) = containment.errors
    assert error.part == "detector x"
    assert "ValueError" in error.message
    assert "abc123secret" not in error.message + error.trace + caplog.text
    assert containment.retired("detector x")
    assert not containment.retired("detector y")


def test_results_pass_through() -> None:
    assert Containment().run("sum", sum, [1, 2]) == 3


def test_interrupts_are_not_contained(contained: None) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Containment().run("part", stop)


def test_tests_see_defects() -> None:
    with pytest.raises(ValueError, match="in the message"):
        Containment().run("part", broken)


def test_a_clear_word_to_the_user_is_no_defect(caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> None:
        raise InputError("records: the folder is full; set record_dir")

    Containment().run("sink local", refuse)
    assert "set record_dir" in caplog.text
