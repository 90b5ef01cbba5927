"""Errors of failguard's own stay with failguard: logged once, recorded, the part retired, training goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from failguard.core.exceptions import exception_facts
from failguard.core.log import logger
from failguard.errors import FailGuardError

__all__ = ["Containment", "PartError"]

P = ParamSpec("P")
T = TypeVar("T")

# Tests set this, so that containment never hides a bug.
reraise = False


@dataclass(frozen=True, slots=True)
class PartError:
    """A part of failguard that failed and was switched off.

    Attributes:
        part: Its name, such as ``"detector loss.divergence"`` or ``"sink mlflow"``.
        message: Type and text of the error.
        trace: The formatted traceback.
    """

    part: str
    message: str
    trace: str = ""


class Containment:
    """Runs the parts of one guard. A part that raises is retired for the rest of the run."""

    def __init__(self) -> None:
        self._errors: dict[str, PartError] = {}

    @property
    def errors(self) -> tuple[PartError, ...]:
        """What failed so far, oldest first."""
        return tuple(self._errors.values())

    def retired(self, part: str) -> bool:
        """Whether the part failed earlier."""
        return part in self._errors

    def run(self, part: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Call a part.

        Returns:
            What it returned; ``None`` when it raised now or is retired.
        """
        if part in self._errors:
            return None
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - the whole point of containment
            self.record(part, error)
            return None

    def record(self, part: str, error: BaseException) -> None:
        """Note that a part failed, and retire it. Re-raised in failguard's own tests."""
        if part not in self._errors:
            facts = exception_facts(error)
            message = f"{facts.type_name}: {facts.message}"
            self._errors[part] = PartError(part, message, facts.trace)
            if isinstance(error, FailGuardError):  # a clear message for the user, not a defect
                logger.warning("failguard: %s is switched off: %s", part, facts.message)
            else:
                logger.warning("failguard: %s failed and is switched off; training goes on: %s", part, message)
                logger.debug("failguard: traceback of %s\n%s", part, facts.trace)
        if reraise and not isinstance(error, FailGuardError):
            raise error
