"""The changes that would save most of a run's hours, each with its evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from failguard.report.run_report import RunReport
from failguard.report.summary import duration, percent

__all__ = ["advice"]

MOST = 3
LEAST_S = 10.0  # of the run: in a shorter one nothing is worth a change
# Shares of the time of a run from which a change is worth its while.
LEAST_WAIT, LEAST_VALIDATION, LEAST_CHECKPOINT, LEAST_CALLBACKS, LEAST_WASTED = 0.15, 0.25, 0.1, 0.1, 0.1
LEAST_WATCHING = 0.03
LOW_UTILIZATION_PERCENT, LOW_MEMORY_SHARE = 60.0, 0.5


def advice(report: RunReport) -> list[dict[str, Any]]:
    """What to change, best first, at most three.

    Returns:
        ``change`` (a sentence), ``gain_share`` (of the run's time that it could save at best, 0 to 1) and ``evidence``
        (a sentence with numbers). Empty where nothing is worth a change.
    """
    if report.progress.duration_s < LEAST_S:
        return []
    found = sorted(_candidates(report), key=lambda c: -c[1])
    return [{"change": change, "gain_share": gain, "evidence": evidence} for change, gain, evidence in found[:MOST]]


def _candidates(report: RunReport) -> Iterator[tuple[str, float, str]]:
    resources, used_s = report.resources, report.progress.duration_s
    phases = (resources.get("time") or {}).get("phases_s") or {}

    def share(name: str) -> float:
        return min(float(phases.get(name, 0.0)) / used_s, 1.0)

    wait = share("data_wait")
    if wait >= LEAST_WAIT:
        remedy = next((c.remedy for c in report.diagnosis.causes if c.code == "slow_input_pipeline"), "")
        yield remedy or _loader(report), wait, f"Steps waited for data {percent(wait)} of the time."
    validation = share("validation")
    if validation >= LEAST_VALIDATION:
        how = {"lightning": " (val_check_interval, limit_val_batches)", "keras": " (validation_freq)"}
        yield (
            f"Validate less often, or on a part of the data{how.get(report.run.framework, '')}.",
            validation / 2,
            f"Validation took {percent(validation)} of the time ({duration(phases['validation'])}).",
        )
    checkpoint = share("checkpoint")
    if checkpoint >= LEAST_CHECKPOINT:
        yield (
            "Write checkpoints less often, in the background, or to a local disk first.",
            checkpoint / 2,
            f"Checkpoints took {percent(checkpoint)} of the time.",
        )
    callbacks = share("callbacks")
    if callbacks >= LEAST_CALLBACKS:
        yield (
            "Do less in callbacks at each batch: log every n steps, draw once an epoch.",
            callbacks,
            f"Callbacks took {percent(callbacks)} of the time.",
        )
    wasted_h = report.compute.wasted_h
    if wasted_h and 3600 * wasted_h >= LEAST_WASTED * used_s:
        wasted = min(3600 * wasted_h / used_s, 1.0)
        stops = " policy='strict' stops on every error; patience ends a run that no longer improves."
        yield (
            "Stop earlier:" + stops,
            wasted,
            f"{percent(wasted)} of the time was spent after the last weights worth keeping.",
        )
    yield from _gpu(resources, wait)
    if report.overhead.share >= LEAST_WATCHING:
        yield (
            "Watch less: detectors='minimal', or a smaller overhead_budget.",
            report.overhead.share,
            f"failguard itself took {percent(report.overhead.share)} of the time.",
        )


def _gpu(resources: Mapping[str, Any], wait: float) -> Iterator[tuple[str, float, str]]:
    utilization = (resources.get("bill") or {}).get("gpu_utilization_percent")
    if not isinstance(utilization, int | float) or utilization >= LOW_UTILIZATION_PERCENT:
        return
    idle = 1.0 - utilization / 100.0 - wait
    if idle < LEAST_WAIT:
        return
    gpus = [g for g in resources.get("gpus") or () if isinstance(g, Mapping)]
    shares = [
        g["memory_used_bytes"]["peak"] / g["memory_total_bytes"]
        for g in gpus
        if isinstance(g.get("memory_used_bytes"), Mapping) and g.get("memory_total_bytes")
    ]
    evidence = f"The GPU was in use {utilization:.0f} % of the time"
    if shares and max(shares) < LOW_MEMORY_SHARE:
        change = "Use a larger batch: the GPU has memory and time for more."
        evidence += f", and at most {percent(max(shares))} of its memory"
    else:
        change = "Give the GPU more work at once: mixed precision, torch.compile or jit_compile, fewer waits (.item())."
    yield change, idle, f"{evidence}."


def _loader(report: RunReport) -> str:
    if report.run.framework == "keras":
        return "Prepare batches in the background: PyDataset(workers=...), or tf.data with prefetch(AUTOTUNE)."
    return "Load in the background: DataLoader(num_workers=4, pin_memory=True, persistent_workers=True)."
