"""How a guard finds the experiment that it runs in, so that both make one record and not two.

A context variable, so that experiments in several threads do not see each other. A thread that ``train_func`` starts
itself does not inherit it before Python 3.14: start it with ``contextvars.copy_context().run``, else a guard in it
keeps a record of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from failguard.core.containment import Containment
from failguard.report.run_report import RunReport
from failguard.sinks.alerts import AlertSink
from failguard.sinks.base import Sink
from failguard.sinks.delivery import Delivery, DeliverySettings, sinks_for

__all__ = ["Deliverer", "Enclosing", "delivery_of", "enclosed_by"]


class Deliverer(Protocol):
    """Takes the reports of one run: a :class:`Delivery`, or what an experiment puts in its place."""

    def start(self, report: RunReport) -> None:
        """A run begins."""

    def progress(self, report: RunReport) -> None:
        """The report so far."""

    def finish(self, report: RunReport) -> None:
        """The run ended."""

    def locations(self) -> dict[str, str]:
        """Where the record is so far, by sink."""


class Enclosing(Protocol):
    """An experiment, as a guard inside it sees it."""

    def join(self, own: Delivery, *, leaves_record: bool) -> Deliverer:
        """A guard starts.

        Args:
            own: Delivers to the guard's own sinks.
            leaves_record: Its record is the experiment's; else the user gave it sinks of its own.
        """


_current: ContextVar[Enclosing | None] = ContextVar("failguard_experiment", default=None)


@contextmanager
def enclosed_by(experiment: Enclosing) -> Iterator[None]:
    """Guards that start in this block, in this context, belong to the experiment."""
    token = _current.set(experiment)
    try:
        yield
    finally:
        _current.reset(token)


def delivery_of(
    settings: DeliverySettings, containment: Containment, more: Callable[[Sequence[Sink]], Sequence[Sink]]
) -> Deliverer:
    """The delivery of a guard's run: its own, or that of the experiment that it runs in.

    Args:
        settings: Where reports go. With ``sinks="auto"`` an experiment takes the place of the three usual sinks.
        containment: That of the guard.
        more: Gives sinks that go with the guard's own.
    """
    experiment = _current.get()
    is_left = experiment is not None and settings.sinks == "auto"
    sinks = sinks_for(settings)
    if is_left:
        sinks = [sink for sink in sinks if isinstance(sink, AlertSink)]
    own = Delivery([*sinks, *more(sinks)], containment)
    return own if experiment is None else experiment.join(own, leaves_record=is_left)
