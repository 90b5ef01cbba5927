"""``weights.frozen``: parameters in the optimizer do not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from failguard.core.event import Event
from failguard.core.facts import Facts, SetupFacts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.history import History
from failguard.core.internals import Internals, LayerReading
from failguard.core.observation import Observation
from failguard.detectors.base import Example
from failguard.detectors.inside import EVENTS, held_since, layers_at, with_layers

__all__ = ["WeightsFrozen"]


@dataclass(frozen=True, slots=True)
class WeightsFrozen:
    """Parameters that an optimizer holds stay as they are.

    Either updates left most layers that had a gradient bit for bit the same in ``samples`` samples in a row, or
    parameters that require no gradient were handed to the optimizer and make up ``min_share`` of what it holds. A
    *warning*, raised only where nothing is learned as well: a frozen backbone is usual in fine-tuning.

    Or ``untrained`` layers or more are frozen, and are after an epoch what an initializer left: no backbone, since
    nothing has ever trained them (Keras; :mod:`failguard.keras.frozen`). A *warning* however well the others learn. A
    single one may be a random projection.

    Evidence: ``unchanged_layers``, ``layers``, ``frozen_share_percent``, ``since_step``, ``moved_before`` (1: earlier
    updates did change them, as before a schedule took the rate away), ``untrained_layers``.

    Attributes:
        samples: See above.
        min_share: Share of the scalars, 0 to 1.
        untrained: Layers.

    Source: exact, no threshold but these.
    """

    samples: int = 3
    min_share: float = 0.5
    untrained: int = 2

    code: ClassVar[str] = "weights.frozen"
    events: ClassVar[frozenset[Event]] = EVENTS
    TRIPS: ClassVar[Sequence[Example]] = (
        Example("a rate of zero", internals=layers_at([5, 30, 60], update_ratios=[0.0, 0.0, 0.0])),
        Example(
            "all is frozen but the head",
            steps={"loss": [1.0] * 40},
            facts=Facts(setup=SetupFacts(frozen=("a.weight", "b.weight"), frozen_share=0.97)),
        ),
        Example(
            "frozen as they were made",
            epochs={"val_loss": [1.0]},
            facts=Facts(setup=SetupFacts(untrained_frozen=("dense", "dense_1"))),
        ),
    )
    QUIET: ClassVar[Sequence[Example]] = (
        Example("all move", internals=layers_at([5, 30, 60], update_ratios=[1e-3, 1e-3])),
        Example(
            "a warm-up begins at zero",
            internals=layers_at([0], update_ratios=[0.0]) + layers_at([9], update_ratios=[1e-4]),
        ),
        Example("not measured", internals=with_layers([5, 30, 60], [LayerReading("a", weight_norm=1.0)])),
        Example("nothing measured"),
    )

    def check(self, observation: Observation, history: History) -> Finding | None:
        """Look at the newest samples and at the setup."""
        setup = history.facts.setup
        more: dict[str, float] = {}
        held = held_since(history, lambda r: None if (c := _counts(r)) is None else 2 * c[0] > c[1], self.samples)
        counts = _counts(held[1]) if held is not None else None
        if held is not None and counts is not None:
            still, layers = counts
            name = next(layer.name for layer in held[1].layers if layer.update_norm == 0.0)
            since = float(held[0].step)
            before = [c for r in history.internals if r.step < held[0].step and (c := _counts(r)) is not None]
            moved = any(2 * c[0] < c[1] for c in before)
            text = f"Updates leave {still} of {layers} layers exactly as they were."
        elif setup.frozen and setup.frozen_share >= self.min_share and observation.step >= 0:
            still, layers, since, moved = 0, 0, 0.0, False
            name = setup.frozen[0].rpartition(".")[0] or setup.frozen[0]
            text = f"{setup.frozen_share:.0%} of what the optimizer holds requires no gradient and cannot change."
        elif len(setup.untrained_frozen) >= self.untrained:
            still, layers, since, moved = 0, 0, 0.0, False
            name = setup.untrained_frozen[0]
            untrained = len(setup.untrained_frozen)
            text = f"{untrained} layers are frozen as an initializer left them: nothing has ever trained them."
            more["untrained_layers"] = float(untrained)
        else:
            return None
        return Finding(
            self.code,
            Severity.WARNING,
            observation.step,
            observation.epoch,
            text,
            Where(module=name, tensor="weight"),
            {
                "unchanged_layers": float(still),
                "layers": float(layers),
                "frozen_share_percent": 100.0 * setup.frozen_share,
                "since_step": since,
                "moved_before": float(moved),
                **more,
            },
        )


def _counts(reading: Internals) -> tuple[int, int] | None:
    """Layers that did not change, and layers looked at: those with a gradient that should have changed them."""
    norms = [
        layer.update_norm
        for layer in reading.layers
        if layer.update_norm is not None and layer.gradient_norm != 0.0 and layer.zero_gradient_units != 1.0
    ]
    return (sum(n == 0.0 for n in norms), len(norms)) if norms else None
