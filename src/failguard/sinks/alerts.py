"""Alerts: one message when a run starts to fail, one when it ended."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from typing import Any

from failguard.core.finding import Severity
from failguard.core.redaction import redact_text
from failguard.errors import ConfigurationError, FailGuardError
from failguard.report.run_report import RunReport

__all__ = ["AlertSink"]

STACK_CHARACTERS = 2_000  # of a message

Target = str | Callable[[Any], Any]


class AlertSink:
    """Tells people about a failing run, on the delivery thread.

    Sends one message at the first finding at error or above, and one when a failing run ended.
    A message that cannot be sent is named in the report.

    Args:
        targets: Addresses in Apprise syntax (Slack, e-mail, webhook, ...) and callables that take the report.

    Raises:
        ConfigurationError: A target is neither, an address is not understood, or Apprise is not installed.
    """

    name = "alerts"
    background = True

    def __init__(self, targets: Sequence[Target]) -> None:
        if isinstance(targets, str) or not all(isinstance(t, str) or callable(t) for t in targets):
            raise ConfigurationError("alerts takes a list of addresses in Apprise syntax and of callables.")
        self.targets = tuple(targets)
        self._raised = False
        self._failures: list[str] = []
        addresses = [t for t in self.targets if isinstance(t, str)]
        if addresses and importlib.util.find_spec("apprise") is None:
            raise ConfigurationError(
                "alerts holds an address, which needs Apprise: pip install failguard-ml[alerts]. Or pass a callable."
            )
        for address in addresses:
            self._apprise(address)

    def start(self, report: RunReport) -> None:
        """Nothing is sent."""
        self._raised = False
        self._failures = []

    def progress(self, report: RunReport) -> None:
        """Send the first message, once there is a finding at error or above."""
        if not self._raised and any(f.severity.rank >= Severity.ERROR.rank for f in report.findings):
            self._raised = True
            self._send("is failing", report)

    def finish(self, report: RunReport) -> None:
        """Send the last message.

        Raises:
            FailGuardError: A message of this run could not be sent.
        """
        if report.failing:  # an ordinary early stop is no alarm
            self._send(str(report.status), report)
        if self._failures:
            raise FailGuardError(f"Alerts could not be sent: {'; '.join(self._failures)}. Check the alerts keyword.")

    def _send(self, what: str, report: RunReport) -> None:
        title = f"failguard: {report.run.run_name or report.run.record_id} {what}"
        self._failures += self.send(title, report.diagnosis.summary + _stacks(report), report)

    def send(self, title: str, body: str, subject: Any) -> list[str]:
        """Send one message to every target.

        Args:
            title, body: For addresses.
            subject: For callables.

        Returns:
            What went wrong, without secrets.
        """
        failures = []
        for target in self.targets:
            try:
                if not isinstance(target, str):
                    target(subject)
                elif not self._apprise(target).notify(title=title, body=body):
                    raise FailGuardError("the service did not take it")
            except Exception as error:  # noqa: BLE001  # the next target and the next message still go out
                failures.append(redact_text(f"{_shown(target)}: {type(error).__name__}: {error}"))
        return failures

    @staticmethod
    def _apprise(address: str) -> Any:
        import apprise

        client = apprise.Apprise()
        log = logging.getLogger("apprise")
        was_disabled, log.disabled = log.disabled, True  # it logs an address it does not know in full
        try:
            known = client.add(address)
        finally:
            log.disabled = was_disabled
        if not known:
            raise ConfigurationError(
                f"The alert address {_shown(address)} is not understood. It must be one that Apprise knows, such as "
                "mailto://, slack:// or json://."
            )
        return client


def _stacks(report: RunReport) -> str:
    """Where the training thread of a hung run is."""
    hangs = report.resources.get("hangs")
    stacks = hangs[-1].get("stacks") if isinstance(hangs, list) and hangs else None
    if not stacks:
        return ""
    name, text = next(iter(stacks.items()))
    return f"\n\n{name}:\n{text[-STACK_CHARACTERS:]}"


def _shown(target: Target) -> str:
    """A target without its secrets: in Apprise addresses every part after the scheme may be one."""
    if isinstance(target, str):
        scheme, separator, _ = target.partition("://")
        return f"{scheme}://..." if separator and scheme.isalnum() else "'...'"
    return getattr(target, "__qualname__", type(target).__name__)
