"""Sending one message to people: addresses in Apprise syntax, and callables."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from typing import Any

from failguard.core.redaction import redact_text
from failguard.errors import ConfigurationError, FailGuardError

__all__ = ["Messenger", "Target", "shown"]

Target = str | Callable[..., Any]


class Messenger:
    """Knows whom to tell.

    Args:
        targets: Addresses in Apprise syntax (Slack, e-mail, webhook, ...) and callables.

    Raises:
        ConfigurationError: A target is neither, an address is not understood, or Apprise is not installed.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        if isinstance(targets, str) or not all(isinstance(t, str) or callable(t) for t in targets):
            raise ConfigurationError("alerts takes a list of addresses in Apprise syntax and of callables.")
        self.targets = tuple(targets)
        addresses = [t for t in self.targets if isinstance(t, str)]
        if addresses and importlib.util.find_spec("apprise") is None:
            raise ConfigurationError(
                "alerts holds an address, which needs Apprise: pip install failguard-ml[alerts]. Or pass a callable."
            )
        for address in addresses:
            _apprise(address)

    def send(self, title: str, body: str, value: object) -> list[str]:
        """Tell everyone. A target that fails does not keep the message from the others.

        Args:
            title, body: For addresses.
            value: What callables get.

        Returns:
            Which targets failed and why, without secrets.
        """
        failures = []
        for target in self.targets:
            try:
                if not isinstance(target, str):
                    target(value)
                elif not _apprise(target).notify(title=title, body=body):
                    raise FailGuardError("the service did not take it")
            except Exception as error:  # noqa: BLE001  # the next target still gets the message
                failures.append(redact_text(f"{shown(target)}: {type(error).__name__}: {error}"))
        return failures


def shown(target: Target) -> str:
    """A target without its secrets: in Apprise addresses every part after the scheme may be one."""
    if isinstance(target, str):
        scheme, separator, _ = target.partition("://")
        return f"{scheme}://..." if separator and scheme.isalnum() else "'...'"
    return getattr(target, "__qualname__", type(target).__name__)


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
            f"The alert address {shown(address)} is not understood. It must be one that Apprise knows, such as "
            "mailto://, slack:// or json://."
        )
    return client
