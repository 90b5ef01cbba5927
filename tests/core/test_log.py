"""The log never costs more than its line."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from failguard.core.containment import Containment
from failguard.core.log import logger


class Raises(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("a broken handler")


@pytest.fixture
def broken_handler() -> Iterator[None]:
    handler = Raises()
    logging.getLogger("failguard").addHandler(handler)
    yield
    logging.getLogger("failguard").removeHandler(handler)


def test_a_handler_that_raises_costs_the_line(broken_handler: None) -> None:
    logger.warning("failguard: %s", "something")


def test_a_handler_that_raises_does_not_get_out_of_containment(broken_handler: None, contained: None) -> None:
    containment = Containment()
    containment.run("part", lambda: 1 / 0)
    assert [e.part for e in containment.errors] == ["part"]


def test_lines_name_the_place_they_come_from(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "failguard"):
        logger.warning("failguard: %s", "something")
    (record,) = caplog.records
    assert (record.name, record.filename, record.getMessage()) == ("failguard", "test_log.py", "failguard: something")
