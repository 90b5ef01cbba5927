"""Which failures may go away by themselves, so that trying again is worth it."""

from __future__ import annotations

import errno
import re

from failguard.core.exceptions import exception_facts
from failguard.diagnosis.exceptions import classify
from failguard.errors import TrainingFailure

__all__ = ["is_transient", "wait_s"]

MAX_WAIT_S = 60.0
# Input and output that was interrupted or timed out; a missing file or a full disk stays so.
_ERRNOS = frozenset(
    getattr(errno, name)
    for name in ("EINTR", "EAGAIN", "EIO", "EBUSY", "ETIMEDOUT", "ESTALE", "ENETDOWN", "ENETUNREACH", "EHOSTUNREACH")
    if hasattr(errno, name)
)
_DEVICE_LOST = re.compile(r"device (?:is|was) lost|fell off the bus|input/output error", re.IGNORECASE)


def is_transient(error: BaseException) -> bool:
    """Whether the diagnosis of an error is a cause that passes: the network, a collective, a lost device, interrupted
    input or output. Memory, data, configuration and the program itself fail again.

    Args:
        error: What training raised.
    """
    if isinstance(error, TrainingFailure) or not isinstance(error, Exception):
        return False
    if isinstance(error, OSError) and error.errno in _ERRNOS:
        return True
    facts = exception_facts(error)
    cause = classify(facts)[0].cause
    if cause == "hardware_fault":
        return _DEVICE_LOST.search(facts.message) is not None
    return cause == "network_or_collective_failure"


def wait_s(first_s: float, attempt: int) -> float:
    """Seconds to wait after an attempt: twice as long each time, at most a minute.

    Args:
        first_s: After the first.
        attempt: Which one failed, from 1.
    """
    return float(min(first_s * 2.0 ** min(attempt - 1, 30), MAX_WAIT_S))
