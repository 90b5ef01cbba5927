"""What the detectors of symptoms inside a model share: the newest samples, and since when a symptom holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from failguard.core.event import Event
from failguard.core.history import History
from failguard.core.internals import Internals, LayerReading

__all__ = ["EVENTS", "held_since", "layers_at", "with_layers"]

EVENTS = frozenset({Event.STEP, Event.EPOCH_END, Event.RUN_END})


def held_since(
    history: History, shows: Callable[[Internals], bool | None], least: int
) -> tuple[Internals, Internals] | None:
    """The unbroken run of newest samples that show a symptom.

    Args:
        history: What was measured.
        shows: Whether a sample shows it; ``None`` where the sample says nothing.
        least: Samples that must agree.

    Returns:
        The first and the last of them; ``None`` where the newest does not show it, or too few do.
    """
    first = last = None
    agreeing = 0
    for reading in reversed(history.internals):
        verdict = shows(reading)
        if verdict is None:
            continue
        if not verdict:
            break
        last = last or reading
        first = reading
        agreeing += 1
    return (first, last) if first is not None and last is not None and agreeing >= least else None


def with_layers(steps: Sequence[int], layers: Sequence[LayerReading]) -> tuple[Internals, ...]:
    """Samples with the same layers at several steps, for examples."""
    return tuple(Internals(step, step, layers=tuple(layers)) for step in steps)


def layers_at(
    steps: Sequence[int],
    *,
    gradient_norms: Sequence[float] = (),
    update_ratios: Sequence[float] = (),
    parameters: int = 1000,
) -> tuple[Internals, ...]:
    """Samples of layers of equal size, for examples.

    Args:
        steps: When they are taken.
        gradient_norms: One a layer.
        update_ratios: One a layer; the weight norm is 1.
        parameters: Of each layer.
    """
    layers = [
        LayerReading(
            f"layer{i}",
            "Linear",
            parameters,
            gradient_norm=gradient_norms[i] if gradient_norms else None,
            weight_norm=1.0 if update_ratios else None,
            update_norm=update_ratios[i] if update_ratios else None,
        )
        for i in range(max(len(gradient_norms), len(update_ratios)))
    ]
    return with_layers(steps, layers)
