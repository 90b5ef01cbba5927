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
from failguard.core.outcome import learning_is_bad, learning_is_poor
from failguard.detectors.base import Example
from failguard.detectors.inside import EVENTS

__all__ = ["ModelWrongMode"]


@dataclass(frozen=True, slots=True)
class ModelWrongMode:
    """Dropout and batch normalization work in the wrong mode. A *warning*, exact.

    *Trains in eval mode*: at a training batch every dropout and batch normalization is in eval mode, and so is every
    layer that learns. A model of which only parts are in eval mode, as in fine-tuning, is left alone. Where the code
    itself passes the mode with each call, as Keras allows, it is raised only where little is learned as well.
    *Evaluated in train mode*: dropout or batch normalization was called in train mode while gradients were off.

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
        Example(
            "training=False in every call, and nothing learned",
            steps={"loss": [1.0] * 400},
            facts=Facts(setup=SetupFacts(trains_in_eval_mode=True, mode_is_passed=True)),
        ),
        Example("no eval()", steps={"loss": [1.0] * 9}, facts=Facts(setup=SetupFacts(evaluates_in_train_mode=True))),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("in order", steps={"loss": [1.0] * 9}),
        Example("nothing is said before the first batch", facts=Facts(setup=SetupFacts())),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at what was seen of the modes."""
        setup, severity = history.facts.setup, Severity.WARNING
        if setup.trains_in_eval_mode:
            text = "The model is trained in eval mode: dropout is off and batch normalization does not adapt."
            # Fine-tuning passes the mode on purpose, to keep the statistics of good weights.
            learns = not (learning_is_bad(observation, history) or learning_is_poor(observation, history))
            if setup.mode_is_passed and learns:
                severity = Severity.INFO
        elif setup.evaluates_in_train_mode:
            text = (
                "The model is evaluated in train mode: dropout or batch normalization acts as in training, which makes "
                "validation random."
            )
        else:
            return None
        return Finding(
            self.code,
            severity,
            observation.step,
            observation.epoch,
            text,
            evidence={
                "trains_in_eval_mode": float(setup.trains_in_eval_mode),
                "evaluates_in_train_mode": float(setup.evaluates_in_train_mode),
                "since_step": 0.0,
            },
        )
