"""All curves, by seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from benchmarks.detection.curves.curve import Curve, epochs_only
from benchmarks.detection.curves.domains_healthy import DOMAINS_HEALTHY
from benchmarks.detection.curves.epochs_faulty import EPOCHS_FAULTY
from benchmarks.detection.curves.epochs_healthy import EPOCHS_HEALTHY
from benchmarks.detection.curves.logs import LOGS_FAULTY, LOGS_HEALTHY, Columns
from benchmarks.detection.curves.shapes import Rng
from benchmarks.detection.curves.steps_faulty import STEPS_FAULTY
from benchmarks.detection.curves.steps_healthy import STEPS_HEALTHY

from failguard.detectors.base import Example

__all__ = ["SIMULATED", "simulated", "zoo"]

SIMULATED = Path(__file__).resolve().parents[4] / "shared" / "data" / "overfit_curves_simulated.npz"


_EXAMPLES: tuple[tuple[str, Callable[[Rng, str], Example], tuple[str, ...]], ...] = (
    *(("epochs", make, ()) for make in EPOCHS_HEALTHY),
    *(("domains", make, ()) for make in DOMAINS_HEALTHY),
    *(("epochs", make, expected) for make, expected in EPOCHS_FAULTY),
    *(("steps", make, ()) for make in STEPS_HEALTHY),
    *(("steps", make, expected) for make, expected in STEPS_FAULTY),
)
_LOGS: tuple[tuple[Callable[[Rng], Columns], tuple[str, ...]], ...] = (
    *((make, ()) for make in LOGS_HEALTHY),
    *LOGS_FAULTY,
)


def zoo(seeds: Iterable[int]) -> Iterator[Curve]:
    """One curve a family and seed."""
    seeds = tuple(seeds)
    for kind, make, expected in _EXAMPLES:
        family = f"{kind}/{make.__name__}"
        for seed in seeds:
            example = make(_generator(family, seed), f"{family} {seed}")
            # A live run that knows a plan or a baseline is not the same as its log.
            log = example.epochs if kind != "steps" and example.facts.trivial_loss is None else None
            yield Curve(family, example, expected, seed, log)
    for make_log, expected in _LOGS:
        family = f"logs/{make_log.__name__}"
        for seed in seeds:
            log = make_log(_generator(family, seed))
            yield Curve(family, Example(f"{family} {seed}"), expected, seed, log, "step", live=False)


def _generator(family: str, seed: int) -> Rng:
    return np.random.default_rng([seed, *family.encode()])


def simulated(every: int = 5) -> list[Curve]:
    """The labelled curves of others; none where the file is not there.

    Args:
        every: Epochs to the next one that is kept; the curves have 1,000.

    Returns:
        The curves in an order drawn once. ``seed`` is 0 for the first half within each label, 1 for the second.
    """
    if not SIMULATED.exists():
        return []
    data = np.load(SIMULATED)
    curves = []
    for overfit in (False, True):
        chosen = np.random.default_rng(20).permutation(np.flatnonzero(data["overfit"] == overfit))
        for position, i in enumerate(chosen.tolist()):
            train, val = data["train_loss"][i][::every], data["val_loss"][i][::every]
            good = np.isfinite(train) & np.isfinite(val)
            example = epochs_only(str(data["name"][i]), train[good], val[good])
            family = f"simulated/{'overfit' if overfit else 'healthy'}"
            expected = ("metric.overfitting",) if overfit else ()
            curves.append(Curve(family, example, expected, 2 * position // chosen.size, example.epochs))
    return curves
