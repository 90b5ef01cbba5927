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
from failguard.detectors.inside import EVENTS

__all__ = ["GradientMissing"]


@dataclass(frozen=True, slots=True)
class GradientMissing:
    """Parameters that were meant to learn cannot: exact, from model, optimizer and the gradients of real updates.

    - *No gradient*: parameters in an optimizer had none in any of ``min_checks`` updates or more. A *warning* where
      they are ``min_share`` of all that optimizers hold; else, as for an unused head, ``info``.
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
    min_checks: int = 20

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
        if setup.without_gradient and setup.gradient_checks >= self.min_checks:
            names, share = setup.without_gradient, setup.without_gradient_share
            severe = share >= self.min_share
            text = f"got no gradient in any of {setup.gradient_checks} updates"
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
