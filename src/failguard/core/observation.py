"""What is new at one moment of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from failguard.core.event import Event

__all__ = ["ExceptionFacts", "Observation"]


@dataclass(frozen=True, slots=True)
class ExceptionFacts:
    """An exception that ended training, reduced to text. Secrets are already redacted.

    Attributes:
        type_name: Class name, such as ``"RuntimeError"``.
        message: Its text.
        trace: The formatted traceback.
        frame: ``"file.py:12 in function: source line"`` of the user's own innermost frame, ``None`` if there is none.
        interrupt: It is a KeyboardInterrupt, a SystemExit or a signal, not an error.
    """

    type_name: str
    message: str
    trace: str = ""
    frame: str | None = None
    interrupt: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """What is new at one event. The values are in the :class:`~failguard.core.history.History` too.

    Attributes:
        event: Which moment.
        step: The newest training batch, from 0 over the whole run; -1 before the first.
        optimizer_step: Updates applied so far.
        epoch: The epoch, from 0.
        values: For ``STEP``: ``"loss"`` and ``"gradient_norm"`` of the newest step, where taken. For ``EPOCH_END``: the
            metrics of the epoch, and ``"non_finite_weights"``, the number of parameters that are not finite, where
            it was looked at.
        validated: The epoch had a validation (``EPOCH_END`` only).
        exception: What was raised (``EXCEPTION`` only).
    """

    event: Event
    step: int = -1
    optimizer_step: int = 0
    epoch: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    validated: bool = False
    exception: ExceptionFacts | None = None
