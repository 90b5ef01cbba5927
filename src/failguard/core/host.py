"""What the guard may ask of a framework. Only a Host touches the user's training."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from failguard.core.capsule import CapsuleInfo
from failguard.core.decision import Decision
from failguard.core.finding import Finding, Where

__all__ = ["Host", "WritesCapsule"]


class Host(Protocol):
    """Implemented by each adapter. The guard contains every call."""

    def apply(self, decision: Decision) -> None:
        """Carry out a STOP: drop the update that is pending, if any, and ask the framework to end training."""

    def weights_bytes(self) -> int:
        """Size of what :meth:`save_weights` would copy, in bytes."""

    def save_weights(self) -> None:
        """Copy parameters and buffers to host memory, in place of an earlier copy. RNG states stay untouched."""

    def restore_weights(self) -> None:
        """Put the copy back into the live model."""

    def non_finite_weights(self) -> list[str]:
        """Qualified names of the parameters that hold a value that is not finite."""

    def learning_rate(self) -> float | None:
        """The optimizer's rate at the moment, ``None`` where it is not known or reading it would wait for a device."""

    def locate(self, finding: Finding) -> Where | None:
        """Find the place of a value that is not finite by looking again at the failing batch.

        Weights, buffers, optimizer state and RNG streams are left as they were.

        Returns:
            The refined place, or ``None`` where nothing more can be said.
        """


@runtime_checkable
class WritesCapsule(Protocol):
    """A host that keeps the start of the run and its newest steps, where the user wants remedies tried."""

    def write_capsule(self, folder: Path, failed_step: int | None) -> CapsuleInfo | None:
        """Write what was kept.

        Args:
            folder: Made when needed.
            failed_step: Step of the first finding at error or above.

        Returns:
            What was written; ``None`` where nothing was to be kept.

        Raises:
            CapsuleRefused: Nothing could be kept; the text says why.
        """
