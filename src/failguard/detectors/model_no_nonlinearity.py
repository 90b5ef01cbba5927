"""``model.no_nonlinearity``: the model has several layers and no activation between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts, ModelFacts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.outcome import learning_is_bad, learning_is_poor
from failguard.core.statistics import median_of_means
from failguard.detectors.base import Example
from failguard.detectors.inside import EVENTS
from failguard.detectors.loss_small_gain import is_held_back

__all__ = ["ModelNoNonlinearity"]

LITTLE = 0.8  # of the trivial predictor's loss is left: hardly anything was learned
WORSE = 1.05  # times it

_IDLE = ModelFacts(idle_layers=("fc3", "fc2"))


@dataclass(frozen=True, slots=True)
class ModelNoNonlinearity:
    """Dense layers follow each other without an activation, so that all of them can do no more than one of them.

    Said of models that have no activation at all, where no hidden layer is a bottleneck (narrower than input and
    output), as linear autoencoders and low-rank maps have one on purpose. A *warning* where learning is bad, or late in
    the plan 80 % of the trivial predictor's loss is left (:mod:`failguard.core.outcome`); else ``info``, since a linear
    model may be all that is needed. So it is where dropout, decay or tiny updates explain that little was learned, and
    where the loss is above 1.05 times the trivial predictor's, which a linear map can always reach.

    Evidence: ``idle_layers`` (how many).

    Source: exact, from the structure. NeuraLint (Nikanjam et al., 2021) and TheDeepChecker (Ben Braiek and Khomh, 2023)
    have the rule without the outcome.
    """

    code: ClassVar[str] = "model.no_nonlinearity"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "three layers, and little learned",
            steps={"loss": [0.66] * 400},
            facts=Facts(model=_IDLE, trivial_loss=0.69, max_epochs=10, steps_per_epoch=40),
        ),
        Example("in a model that learns, as info", steps={"loss": [0.1] * 9}, facts=Facts(model=_IDLE)),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("activations are there", steps={"loss": [1.0] * 9}, facts=Facts(model=ModelFacts(layers=3))),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the structure, then at how it goes."""
        idle = history.facts.model.idle_layers
        if not idle or observation.step < 0:
            return None
        goes_badly = learning_is_bad(observation, history) or learning_is_poor(observation, history, LITTLE)
        goes_badly = goes_badly and not is_held_back(history) and not _is_worse_than_trivial(history)
        layers = len(idle) + 1
        return Finding(
            self.code,
            Severity.WARNING if goes_badly else Severity.INFO,
            observation.step,
            observation.epoch,
            f"There is no activation between the model's {layers} layers: together they are a single linear map.",
            Where(module=idle[0]),
            {"idle_layers": float(len(idle)), "since_step": 0.0},
        )


def _is_worse_than_trivial(history: History) -> bool:
    losses, trivial = history.steps.get("loss"), history.facts.trivial_loss
    now = median_of_means(losses.recent(64)) if losses is not None and len(losses) else None
    return now is not None and trivial is not None and now > WORSE * trivial
