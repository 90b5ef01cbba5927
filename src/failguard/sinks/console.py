"""The console: quiet while all is well, one clear panel at the end of a failing run."""

from __future__ import annotations

from failguard.report.run_report import RunReport

__all__ = ["Console"]


class Console:
    """Says on stderr what went wrong."""

    name = "console"
    background = False

    def start(self, report: RunReport) -> None:
        """Nothing is said at the start."""

    def progress(self, report: RunReport) -> None:
        """Say new findings."""

    def finish(self, report: RunReport) -> None:
        """Say how the run ended."""
