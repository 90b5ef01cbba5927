"""The chart of cost against the size of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["draw"]

PARAMETERS = {"mlp": 26e3, "1m": 1e6, "10m": 10e6, "50m": 50e6}


def draw(kept: Mapping[str, Any], path: Path) -> bool:
    """Draw cost against parameters, where sizes were measured.

    Returns:
        Whether there was anything to draw.
    """
    rows = [
        row
        for part in ("frameworks", "sizes")
        for row in kept["parts"].get(part, {}).get("rows", [])
        if row["watch"] == "standard" and row.get("overhead") is not None
    ]
    points: dict[str, list[tuple[float, Mapping[str, Any]]]] = {}
    for row in rows:
        framework, _, model = row["program"].partition("-")
        if model in PARAMETERS:
            points.setdefault(framework, []).append((PARAMETERS[model], row))
    if not any(len(p) > 1 for p in points.values()):
        return False
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "failguard"
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6))
    for framework, found in sorted(points.items()):
        found.sort(key=lambda point: point[0])
        x = [p for p, _ in found]
        y = [row["overhead"]["value"] for _, row in found]
        low = [max(row["overhead"]["value"] - row["overhead"]["low"], 0) for _, row in found]
        high = [max(row["overhead"]["high"] - row["overhead"]["value"], 0) for _, row in found]
        left.errorbar(x, y, yerr=[low, high], marker="o", capsize=3, label=framework)
        right.plot(x, [row["own_us"] or 0.0 for _, row in found], marker="o", label=framework)
    left.axhline(1.0, color="0.6", linestyle="--", linewidth=1)
    left.set(xscale="log", xlabel="parameters", ylabel="overhead of a typical step, %")
    right.set(xscale="log", yscale="log", xlabel="parameters", ylabel="own account, us a step")
    left.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return True
