"""Remedies as changes that can be made without the user's code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from failguard.core.diagnosis import Cause
from failguard.core.facts import Facts
from failguard.diagnosis.config_lint import MOST_DROPOUT
from failguard.diagnosis.rates import lower_rate, raised_rate
from failguard.diagnosis.remedies.capacity import WORKING_DROPOUT
from failguard.diagnosis.wording import number

__all__ = ["Change", "change_for"]

USUAL_CLIPPING = 1.0
WORKING_DECAY = 0.01  # what the remedy says
_LIMIT = re.compile(r"Clip the gradient norm at ([0-9.e+-]+)")


@dataclass(frozen=True, slots=True)
class Change:
    """What a trial changes. Only what is set is changed.

    Attributes:
        what: In words that go before "the loss fell".
        rate_factor: The learning rate of each step is multiplied by it.
        clip_norm: Global gradient norm at which gradients are clipped, in place of any clipping before.
        weight_decay, dropout: New values.
        scales_inputs, scales_targets: Mean 0 and standard deviation 1 over the recorded batches.
        drops_rows: Samples with values that are not finite, or absurd, are left out.
        clears_gradients: Before each update, where the loop did not.
        hands_over: Every trainable parameter is given to the optimizer.
        unfreezes: Every parameter learns.
        initializes: Fresh initial weights, as the layers draw them by default.
    """

    what: str
    rate_factor: float = 1.0
    clip_norm: float | None = None
    weight_decay: float | None = None
    dropout: float | None = None
    scales_inputs: bool = False
    scales_targets: bool = False
    drops_rows: bool = False
    clears_gradients: bool = False
    hands_over: bool = False
    unfreezes: bool = False
    initializes: bool = False


def change_for(cause: Cause, facts: Facts) -> Change | None:
    """The change that a cause's remedy asks for, with its numbers.

    Returns:
        ``None`` where the remedy needs another program, other data or more than a few dozen updates.
    """
    make = _CHANGES.get(cause.code)
    return None if make is None else make(cause, facts)


def _lower_rate(cause: Cause, facts: Facts) -> Change | None:
    if not cause.remedy.startswith("Lower the learning rate"):  # it may be the loss that is to be divided
        return None
    return _rate(facts, lower_rate(facts.optimizer))


def _raise_rate(cause: Cause, facts: Facts) -> Change | None:
    if not cause.remedy.startswith("Raise the learning rate"):  # or the schedule that is to last longer
        return None
    return _rate(facts, raised_rate(facts.optimizer))


def _rate(facts: Facts, new: float | None) -> Change | None:
    rate = facts.optimizer.learning_rate
    if new is None or not rate:
        return None
    return Change(f"with the learning rate {number(new)} instead of {number(rate)}", rate_factor=new / rate)


def _clip(cause: Cause, facts: Facts) -> Change:
    found = _LIMIT.search(cause.remedy)
    limit = float(found[1]) if found else USUAL_CLIPPING
    return Change(f"with the gradient norm clipped at {number(limit)}", clip_norm=limit)


def _relax(cause: Cause, facts: Facts) -> Change | None:
    if facts.model.dropout is not None and facts.model.dropout >= MOST_DROPOUT:
        return Change(
            f"with dropout {WORKING_DROPOUT:g} instead of {number(facts.model.dropout)}", dropout=WORKING_DROPOUT
        )
    decay = facts.optimizer.weight_decay
    if facts.model.weight_penalty or not decay:
        return None
    return Change(f"with weight decay {WORKING_DECAY:g} instead of {number(decay)}", weight_decay=WORKING_DECAY)


def _hand_over(cause: Cause, facts: Facts) -> Change | None:
    if facts.setup.hidden:  # no parameter of the model, so there is no way to find them
        return None
    return Change("with every trainable parameter in the optimizer", hands_over=True)


_CHANGES: dict[str, Callable[[Cause, Facts], Change | None]] = {
    "learning_rate_too_high": _lower_rate,
    "dead_units": _lower_rate,
    "learning_rate_too_low": _raise_rate,
    "missing_gradient_clipping": _clip,
    "too_much_regularization": _relax,
    "parameters_not_in_optimizer": _hand_over,
    "unscaled_inputs": lambda cause, facts: Change("with scaled inputs", scales_inputs=True),
    "unscaled_targets": lambda cause, facts: Change("with scaled targets", scales_targets=True),
    "corrupted_batch": lambda cause, facts: Change("without the bad rows", drops_rows=True),
    "missing_zero_grad": lambda cause, facts: Change(
        "with gradients cleared before each update", clears_gradients=True
    ),
    "frozen_parameters": lambda cause, facts: Change("with every parameter trainable", unfreezes=True, hands_over=True),
    "bad_initialization": lambda cause, facts: Change("with the layers' default initial weights", initializes=True),
}
