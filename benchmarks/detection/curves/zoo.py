"""All curves, by seed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from benchmarks.detection.curves.curve import Curve, epochs_only
from benchmarks.detection.curves.epochs_faulty import EPOCHS_FAULTY
from benchmarks.detection.curves.epochs_healthy import EPOCHS_HEALTHY
from benchmarks.detection.curves.steps_faulty import STEPS_FAULTY
from benchmarks.detection.curves.steps_healthy import STEPS_HEALTHY

__all__ = ["SIMULATED", "simulated", "zoo"]

SIMULATED = Path(__file__).resolve().parents[4] / "shared" / "data" / "overfit_curves_simulated.npz"


def zoo(seeds: Iterable[int]) -> Iterator[Curve]:
    """One curve a family and seed."""
    families = [
        *(("epochs", make, ()) for make in EPOCHS_HEALTHY),
        *(("epochs", make, expected) for make, expected in EPOCHS_FAULTY),
        *(("steps", make, ()) for make in STEPS_HEALTHY),
        *(("steps", make, expected) for make, expected in STEPS_FAULTY),
    ]
    seeds = tuple(seeds)
    for kind, make, expected in families:
        family = f"{kind}/{make.__name__}"
        for seed in seeds:
            rng = np.random.default_rng([seed, *family.encode()])
            yield Curve(family, make(rng, f"{family} {seed}"), tuple(expected), seed)


def simulated(every: int = 5) -> list[Curve]:
    """The labelled curves of others, thinned to every fifth epoch; none where the file is not there.

    Odd and even positions within each label make the two halves.
    """
    if not SIMULATED.exists():
        return []
    data = np.load(SIMULATED)
    curves = []
    positions = {True: 0, False: 0}
    for i in np.random.default_rng(20).permutation(len(data["overfit"])):
        overfit = bool(data["overfit"][i])
        train, val = data["train_loss"][i][::every], data["val_loss"][i][::every]
        good = np.isfinite(train) & np.isfinite(val)
        example = epochs_only(str(data["name"][i]), train[good], val[good])
        expected = ("metric.overfitting",) if overfit else ()
        curves.append(Curve(f"simulated/{'overfit' if overfit else 'healthy'}", example, expected, positions[overfit]))
        positions[overfit] += 1
    return curves
