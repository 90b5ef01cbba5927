"""``model.wrong_mode``: the model trains in eval mode, or is evaluated in train mode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts, SetupFacts
from failguard.core.finding import Finding, Severity
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.detectors.base import Example
from failguard.detectors.inside import EVENTS

__all__ = ["ModelWrongMode"]


@dataclass(frozen=True, slots=True)
class ModelWrongMode:
    """Dropout and batch normalization work in the wrong mode. A *warning*, exact.

    *Trains in eval mode*: the whole model is in eval mode at a training batch, and every dropout and batch
    normalization in it. A model of which only parts are in eval mode, as in fine-tuning, is left alone.
    *Evaluated in train mode*:
    dropout or batch normalization was called in train mode while gradients were off.

    Evidence: ``trains_in_eval_mode``, ``evaluates_in_train_mode`` (1 or 0).

    Source: exact, no threshold.
    """

    code: ClassVar[str] = "model.wrong_mode"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "no train() after eval()",
            steps={"loss": [1.0] * 9},
            facts=Facts(setup=SetupFacts(trains_in_eval_mode=True)),
        ),
        Example("no eval()", steps={"loss": [1.0] * 9}, facts=Facts(setup=SetupFacts(evaluates_in_train_mode=True))),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("in order", steps={"loss": [1.0] * 9}),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at what was seen of the modes."""
        setup = history.facts.setup
        if setup.trains_in_eval_mode:
            text = "The model is trained in eval mode: dropout is off and batch normalization does not adapt."
        elif setup.evaluates_in_train_mode:
            text = (
                "The model is evaluated in train mode: dropout or batch normalization acts as in training, which makes "
                "validation random."
            )
        else:
            return None
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            text,
            evidence={
                "trains_in_eval_mode": float(setup.trains_in_eval_mode),
                "evaluates_in_train_mode": float(setup.evaluates_in_train_mode),
                "since_step": 0.0,
            },
        )
