"""What a sink is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from failguard.report.run_report import RunReport

__all__ = ["Sink"]


@runtime_checkable
class Sink(Protocol):
    """A place that reports are written to.

    ``start`` and ``finish`` of a sink with ``background = True`` are called on the delivery thread and may be slow;
    those of the others on the training thread, and must be quick. ``progress`` is always called on the delivery thread.
    The calls of one sink never overlap within a run; a call that a run no longer waited for may overlap the next run.
    A report handed to a sink is a copy, already redacted. A sink that raises is retired for the rest of the run and
    named in the report; the local record keeps what it could not take.

    A sink may also have:

    - ``prepare(report)``: called on the training thread just before ``start``, for what only that thread can see;
    - ``location``: where the record is, as text, or ``None``; it goes into :attr:`RunReport.locations` under the name;
    - ``note``: a remark for the report, or ``None``.

    Attributes:
        name: Short and unique among the sinks of a run.
        background: See above.
    """

    name: str
    background: bool

    def start(self, report: RunReport) -> None:
        """A run begins."""

    def progress(self, report: RunReport) -> None:
        """The report so far. Called at most every few seconds, and when a finding is raised; some may be left out."""

    def finish(self, report: RunReport) -> None:
        """The run ended. The last call."""
