"""How fast a run trains, and whether it gets slower. Pure."""

from __future__ import annotations

from failguard.core.history import Series
from failguard.core.statistics import median

__all__ = ["throughput"]

WARM_UP_STEPS = 16  # compilation, caches and the first batches of workers
TREND_STEPS = 300  # fewer say more about the machine than about the run


def throughput(
    step_s: Series | None, batch_size: int | None, tokens_per_step: float | None = None, ranks: int = 1
) -> dict[str, float]:
    """Rates of training, from the typical time of a step.

    Args:
        step_s: Seconds of each step.
        batch_size: Samples in the batch of one rank.
        tokens_per_step: Tokens in the batch of one rank, as the user says.
        ranks: Ranks that train together.

    Returns:
        ``step_s`` (median of the newest), ``steps_per_s``, ``samples_per_s``, ``tokens_per_s`` (all ranks together)
        and ``trend_percent``: how much faster (above 0) or slower the last third of the run was than the first, by
        medians, without the first steps. What is not known is absent.
    """
    if step_s is None or len(step_s) <= WARM_UP_STEPS:
        return {}
    recent = [float(x) for x in step_s.recent(min(len(step_s) - WARM_UP_STEPS, 512)) if x > 0]
    if not recent:
        return {}
    typical = median(recent)
    found = {"step_s": typical, "steps_per_s": 1.0 / typical}
    if batch_size:
        found["samples_per_s"] = batch_size * ranks / typical
    if tokens_per_step:
        found["tokens_per_s"] = tokens_per_step * ranks / typical
    first_step = step_s.blocks()[0].start
    means = [b.mean for b in step_s.blocks() if b.start - first_step >= WARM_UP_STEPS and b.finite and b.mean > 0]
    if len(step_s) - WARM_UP_STEPS >= TREND_STEPS and len(means) >= 9:
        third = len(means) // 3
        found["trend_percent"] = 100.0 * (median(means[:third]) / median(means[-third:]) - 1.0)
    return found
