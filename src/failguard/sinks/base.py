"""What a sink is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from failguard.report.run_report import RunReport

__all__ = ["Sink"]


@runtime_checkable
class Sink(Protocol):
    """A place that reports are written to.

    A sink with ``background = True`` is called on the delivery thread, in order, and may be slow; the others are called
    on the training thread at the start, at epoch ends (seldom) and at the end of a run, and must be quick.
    Reports handed to a sink are already redacted and belong to the sink: the guard does not change them afterwards.
    A sink that raises is retired; the local record and the spool keep what it could not take.
    """

    name: str
    background: bool

    def start(self, report: RunReport) -> None:
        """A run begins. On the training thread also for background sinks is :meth:`prepare`, if there is one."""

    def progress(self, report: RunReport) -> None:
        """The report so far. Called at most every few seconds, and when a finding is raised."""

    def finish(self, report: RunReport) -> None:
        """The run ended. The last call."""
