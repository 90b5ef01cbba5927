"""One labelled curve of the zoo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from failguard.core.facts import Facts, OptimizerFacts
from failguard.detectors.base import Example

__all__ = ["Curve", "epochs_only", "with_steps"]


@dataclass(frozen=True, slots=True)
class Curve:
    """A run in numbers, with what should be said of it.

    Attributes:
        family: How it was made.
        example: The run, for replay.
        log: Columns for ``failguard.analyze``; ``None`` where only a live run has what is in the example.
        per: What a row of the log stands for.
        live: Whether the example is to be replayed as well.
        expected: Codes any of which names the fault, the best first; empty for a healthy run.
        seed: Of its random numbers; even seeds are for calibration, odd ones for the report.
    """

    family: str
    example: Example
    expected: tuple[str, ...] = ()
    seed: int = 0
    log: Mapping[str, Sequence[float | None]] | None = None
    per: Literal["epoch", "step"] = "epoch"
    live: bool = True

    @property
    def is_faulty(self) -> bool:
        """Whether something should be said of it."""
        return bool(self.expected)

    @property
    def kind(self) -> str:
        """``"epochs"``, ``"steps"``, ``"logs"`` or ``"simulated"``."""
        return self.family.split("/")[0]


def epochs_only(
    name: str,
    train: Sequence[float],
    val: Sequence[float] | None = None,
    *,
    facts: Facts | None = None,
    **more: Sequence[float],
) -> Example:
    """A log with one value an epoch."""
    metrics: dict[str, list[float]] = {"train_loss": [float(x) for x in train]}
    if val is not None:
        metrics["val_loss"] = [float(x) for x in val]
    metrics |= {key: [float(x) for x in values] for key, values in more.items()}
    return Example(name, epochs=metrics, facts=facts or Facts())


def with_steps(
    name: str,
    loss: Sequence[float],
    val: Sequence[float] | None = None,
    *,
    epochs: int,
    trivial: float | None = None,
    source: str | None = None,
    schedule: str | None = None,
    planned: int | None = None,
) -> Example:
    """A live run: losses per step, validation per epoch.

    Args:
        epochs: How many the run had.
        planned: How many were planned; ``None`` for as many.
    """
    facts = Facts(
        trivial_loss=trivial,
        trivial_loss_source=source or ("class_prior" if trivial is not None else None),
        max_epochs=planned or epochs,
        steps_per_epoch=max(len(loss) // epochs, 1),
        optimizer=OptimizerFacts(schedule=schedule),
    )
    metrics = {"epoch_s": [1.0] * epochs} if val is None else {"val_loss": [float(x) for x in val]}
    return Example(name, steps={"loss": [float(x) for x in loss]}, epochs=metrics, facts=facts)
