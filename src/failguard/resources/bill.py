"""What a run cost: GPU-hours, energy, money, and the part of them that was wasted or saved. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from failguard.resources.emissions import kg_per_kwh

__all__ = ["PEAK_TFLOPS", "bill"]

# Dense peak of 16-bit matrix products in 1e12 operations a second, from the makers' data sheets; the first name that is
# part of the card's counts. Reduced cards (PCIe, NVL) before the full ones.
PEAK_TFLOPS = (
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H100", 989.0),
    ("H200", 989.0),
    ("B200", 2250.0),
    ("A100", 312.0),
    ("A40", 149.7),
    ("A30", 165.0),
    ("A10G", 70.0),
    ("L40S", 362.0),
    ("L40", 181.0),
    ("L4", 121.0),
    ("V100", 125.0),
    ("T4", 65.0),
    ("MI300X", 1307.0),
    ("MI250X", 383.0),
)


def bill(
    summary: Mapping[str, Any],
    duration_s: float,
    *,
    wasted_share: float | None = None,
    saved_s: float | None = None,
    price_per_gpu_hour: float | None = None,
    flops_per_step: float | None = None,
    emissions_country: str | None = None,
) -> dict[str, Any]:
    """Add up what the GPUs of a run cost.

    GPUs count for the whole duration, busy or not: that is how they are paid for. Of several visible ones those count
    on which the run was seen; all of them where that is not known.

    Args:
        summary: Of the sampler.
        duration_s: Of the run.
        wasted_share: Share of the duration after the last weights worth keeping, 0 to 1; ``None`` where not known.
        saved_s: Seconds that stopping saved; ``None`` where not known.
        price_per_gpu_hour: In any currency.
        flops_per_step: Floating-point operations of a training step of one rank.
        emissions_country: ISO code, for the emissions of the energy.

    Returns:
        ``hours``; with GPUs also ``gpus``, ``gpu_hours``, ``gpu_utilization_percent`` (mean), ``energy_kwh`` and
        ``energy_source`` (``"counter"``, ``"power"``, ``"mixed"``), ``emissions_kg``, ``mfu`` (0 to 1, of the card's
        dense 16-bit peak); ``cost`` with a price; for each of hours, GPU-hours, energy, emissions and cost its
        ``wasted_...`` and ``saved_...`` part. What is not known is absent.
    """
    hours = duration_s / 3600.0
    found: dict[str, Any] = {"hours": hours}
    gpus = [g for g in summary.get("gpus") or () if isinstance(g, Mapping) and g.get("used_by_run") is not False]
    amounts = {"hours": hours}
    if gpus:
        found["gpus"] = len(gpus)
        amounts["gpu_hours"] = hours * len(gpus)
        energies = [(g["energy_kwh"], g.get("energy_source")) for g in gpus if "energy_kwh" in g]
        if len(energies) == len(gpus):  # a part of the energy is not the energy
            amounts["energy_kwh"] = sum(kwh for kwh, _ in energies)
            sources = {source for _, source in energies}
            found["energy_source"] = sources.pop() if len(sources) == 1 else "mixed"
            factor = None if emissions_country is None else kg_per_kwh(emissions_country)
            if factor is not None:
                amounts["emissions_kg"] = amounts["energy_kwh"] * factor
        if price_per_gpu_hour is not None:
            amounts["cost"] = amounts["gpu_hours"] * price_per_gpu_hour
        used = [g["utilization_percent"]["mean"] for g in gpus if isinstance(g.get("utilization_percent"), Mapping)]
        if used:
            found["gpu_utilization_percent"] = sum(used) / len(used)
        share = _mfu(summary, gpus, flops_per_step)
        if share is not None:
            found["mfu"] = share
    found.update(amounts)
    for name, amount in amounts.items():
        if wasted_share is not None:
            found[f"wasted_{name}"] = amount * min(max(wasted_share, 0.0), 1.0)
        if saved_s is not None and duration_s > 0:
            found[f"saved_{name}"] = amount * max(saved_s, 0.0) / duration_s
    return found


def _mfu(summary: Mapping[str, Any], gpus: list[Mapping[str, Any]], flops_per_step: float | None) -> float | None:
    """Model FLOPs utilisation (Chowdhery et al., "PaLM", 2022): operations that the model needs, over the peak."""
    step_s = (summary.get("throughput") or {}).get("step_s")
    name = str(gpus[0].get("name", ""))
    peak = next((tflops for part, tflops in PEAK_TFLOPS if part in name), None)
    if not flops_per_step or not step_s or peak is None:
        return None
    return float(flops_per_step / step_s / (peak * 1e12))
