"""``gradient.missing``: trainable parameters that get no gradient, or that no optimizer updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts, SetupFacts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.core.outcome import learning_is_bad
from failguard.detectors.base import Example
from failguard.detectors.inside import EVENTS, layers_at

__all__ = ["GradientMissing"]

LEAST_READINGS = 3
EARLY_STEPS = 64  # the first sample is from the start of the run


@dataclass(frozen=True, slots=True)
class GradientMissing:
    """Parameters that were meant to learn cannot: exact, from model, optimizer and the gradients of real updates.

    - *No gradient*: parameters in an optimizer had none in any of ``min_checks`` updates or more. A *warning* where
      they are ``min_share`` of all that optimizers hold; else, as for an unused head, ``info``. So are modules that
      are not called at all, as experts that are never chosen, unless nothing is learned.
      Of several optimizers one that rests is left alone; one whose step is made without any gradient is not.
    - *None at all*: from the start of the run on, every update leaves all weights as they are and finds no gradient
      anywhere, in ``min_checks`` of them; or every layer's gradient was exactly zero in all samples, three or more. A
      *warning*.
    - *No optimizer*: trainable parameters got gradients, but are in no optimizer. A *warning* where the last layer is
      among them (a frozen backbone leaves out first layers), where a plain list or dict hides them from the model, or
      where nothing is learned; else ``info``.

    Evidence: ``parameters`` (how many tensors), ``share_percent`` of the scalars, ``updates`` looked at.

    Attributes:
        min_share: Share of the scalars, 0 to 1.
        min_checks: Updates.

    Source: exact, no threshold but the two above. TheDeepChecker (Ben Braiek and Khomh, 2023) checks parameters that do
    not change.
    """

    min_share: float = 0.05
    min_checks: int = 30

    code: ClassVar[str] = "gradient.missing"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example(
            "an encoder behind detach()",
            steps={"loss": [1.0] * 40},
            facts=Facts(
                setup=SetupFacts(without_gradient=("a.weight",), without_gradient_share=0.5, gradient_checks=30)
            ),
        ),
        Example(
            "layers in a plain list",
            steps={"loss": [1.0] * 40},
            facts=Facts(
                setup=SetupFacts(
                    left_out=("blocks[0].weight",), left_out_share=0.4, hidden=("blocks[0].weight",), gradient_checks=30
                )
            ),
        ),
        Example(
            "the loss was made a number and a tensor again",
            steps={"loss": [1.0] * 40},
            internals=layers_at([5, 30, 60], update_ratios=[0.0, 0.0]),
            facts=Facts(setup=SetupFacts(updates_without_gradient=30)),
        ),
        Example(
            "the only loss has a weight of zero",
            steps={"loss": [0.0] * 40},
            internals=layers_at([5, 30, 60], gradient_norms=[0.0, 0.0]),
        ),
        Example(
            "the head was forgotten",
            steps={"loss": [1.0] * 40},
            facts=Facts(
                setup=SetupFacts(left_out=("head.weight",), left_out_share=0.1, left_out_last=True, gradient_checks=30)
            ),
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example(
            "left out, but too early to tell",
            steps={"loss": [1.0] * 4},
            facts=Facts(setup=SetupFacts(left_out=("a.weight",), left_out_share=0.5, gradient_checks=4)),
        ),
        Example(
            "the loop asks before backward, and the weights move",
            steps={"loss": [1.0] * 40},
            internals=layers_at([5, 30, 60], update_ratios=[1e-3, 1e-3]),
            facts=Facts(setup=SetupFacts(updates_without_gradient=40)),
        ),
        Example(
            "a margin is kept by all in the end",
            internals=layers_at([5], gradient_norms=[0.1, 0.2]) + layers_at([30, 60, 90], gradient_norms=[0.0, 0.0]),
        ),
        Example("all in order", steps={"loss": [1.0] * 40}, facts=Facts(setup=SetupFacts(gradient_checks=30))),
        Example(
            "too early to tell",
            steps={"loss": [1.0] * 40},
            facts=Facts(
                setup=SetupFacts(without_gradient=("a.weight",), without_gradient_share=0.5, gradient_checks=5)
            ),
        ),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at how model and optimizer are put together."""
        setup = history.facts.setup
        nothing = _nothing_at_all(history, self.min_checks)
        if nothing is not None:
            updates, text = nothing
            evidence = {"share_percent": 100.0, "updates": float(updates), "since_step": 0.0}
            where = Where(tensor="gradient")
            return Finding(self.code, Severity.WARNING, observation.step, observation.epoch, text, where, evidence)
        if setup.without_gradient and setup.gradient_checks >= self.min_checks:
            names, share = setup.without_gradient, setup.without_gradient_share
            severe = share >= self.min_share
            text = f"got no gradient in any of {setup.gradient_checks} updates"
            if setup.without_gradient_unused:
                severe = severe and learning_is_bad(observation, history)
                text += ": their modules are not called in the forward pass"
        elif setup.left_out and setup.gradient_checks >= self.min_checks:
            names, share = setup.left_out, setup.left_out_share
            severe = setup.left_out_last or bool(setup.hidden) or learning_is_bad(observation, history)
            text = "get gradients, but no optimizer updates them"
            if setup.hidden:
                names = setup.hidden
                text += ": they are in a plain list, dict or attribute, which hides them from the model"
        else:
            return None
        shown = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
        return Finding(
            self.code,
            Severity.WARNING if severe else Severity.INFO,
            observation.step,
            observation.epoch,
            f"Parameters {shown} ({share:.0%} of them by size) {text}.",
            Where(module=names[0].rpartition(".")[0] or names[0], tensor="gradient"),
            {
                "parameters": float(len(names)),
                "share_percent": 100.0 * share,
                "updates": float(setup.gradient_checks),
                "since_step": 0.0,
            },
        )


def _nothing_at_all(history: History, min_checks: int) -> tuple[int, str] | None:
    """Where nothing ever had a gradient: how many updates tell so, and a sentence."""
    setup = history.facts.setup
    if setup.gradient_checks == 0 and setup.updates_without_gradient >= min_checks:
        norms = [layer.update_norm for reading in history.internals for layer in reading.layers]
        if norms and all(norm == 0.0 for norm in norms if norm is not None):
            updates = setup.updates_without_gradient
            return updates, f"No parameter had a gradient in any of {updates} updates, which change nothing."
        return None
    for reading in reversed(history.internals):  # nearly always the newest one says no
        for layer in reading.layers:
            if layer.gradient_norm != 0.0:
                return None
    readings = [reading for reading in history.internals if reading.layers]
    if len(readings) < LEAST_READINGS or readings[0].step > EARLY_STEPS:
        return None
    return len(readings), f"The gradients of all layers were exactly zero in each of {len(readings)} samples."
