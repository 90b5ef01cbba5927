"""Alerts: a message for each episode of a failing run, and one when it ended or was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from failguard.core.finding import Finding, Severity, Status
from failguard.errors import FailGuardError
from failguard.report.run_report import RunReport
from failguard.report.summary import one_line, summarize
from failguard.sinks.messages import Messenger, Target

__all__ = ["AlertSink"]

LEAST_GAP_S = 60.0  # between two messages of a run that goes on
MOST_MESSAGES = 10  # of one run, beside the last one
STACK_CHARACTERS = 2_000  # of a message


class AlertSink:
    """Tells people about a failing run, on the delivery thread.

    Sends a message for each new finding at error or above (a finding is one episode), and one when a failing run ended
    or any run was stopped, an early stop included. At most one a minute and ten a run, beside the last; what was held
    back is counted in the next. A message that cannot be sent is named in the report.

    Args:
        targets: Addresses in Apprise syntax (Slack, e-mail, webhook, ...) and callables that take the report.

    Raises:
        ConfigurationError: A target is neither, an address is not understood, or Apprise is not installed.
    """

    name = "alerts"
    background = True

    def __init__(self, targets: Sequence[Target]) -> None:
        self._messenger = Messenger(targets)
        self._begin()

    def _begin(self) -> None:
        self._told: set[str] = set()
        self._held_back = 0
        self._sent = 0
        self._last_sent_at: float | None = None
        self._failures: list[str] = []

    def start(self, report: RunReport) -> None:
        """Nothing is sent."""
        self._begin()

    def progress(self, report: RunReport) -> None:
        """Send a message where there is a new finding at error or above."""
        new = [f for f in _alarming(report) if f.code not in self._told]
        if not new:
            return
        self._told.update(f.code for f in new)
        now = monotonic()
        too_soon = self._last_sent_at is not None and now - self._last_sent_at < LEAST_GAP_S
        if too_soon or self._sent >= MOST_MESSAGES:
            self._held_back += 1
            return
        self._sent += 1
        self._last_sent_at = now
        self._send("is failing", report, new)

    def finish(self, report: RunReport) -> None:
        """Send the last message.

        Raises:
            FailGuardError: A message of this run could not be sent.
        """
        if report.failing or report.status is Status.STOPPED:
            root = [] if report.root is None else [report.root]
            self._send(str(report.status), report, _alarming(report) or root)
        if self._failures:
            failures = dict.fromkeys(self._failures)
            raise FailGuardError(f"Alerts could not be sent: {'; '.join(failures)}. Check the alerts keyword.")

    def _send(self, what: str, report: RunReport, findings: Sequence[Finding]) -> None:
        title = f"failguard: {one_line(report.run.run_name or report.run.record_id, 200)} {what}"
        if findings:
            title += f": {findings[0].code}"
        lines = [one_line(report.diagnosis.summary)]
        remedy = summarize(report).remedy
        if remedy:
            lines.append(f"What to try: {remedy}")
        lines += [f"{name}: {one_line(place)}" for name, place in report.locations.items()]
        if self._held_back:
            lines.append(f"Messages held back in between: {self._held_back}.")
            self._held_back = 0
        self._failures += self._messenger.send(title, "\n".join(lines) + _stacks(report), report)


def _alarming(report: RunReport) -> list[Finding]:
    return [f for f in report.findings if f.severity.rank >= Severity.ERROR.rank]


def _stacks(report: RunReport) -> str:
    """Where the training thread of a hung run is."""
    hangs = report.resources.get("hangs")
    stacks = hangs[-1].get("stacks") if isinstance(hangs, list) and hangs else None
    if not stacks:
        return ""
    name, text = next(iter(stacks.items()))
    return f"\n\n{name}:\n{text[-STACK_CHARACTERS:]}"
