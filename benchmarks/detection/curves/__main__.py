"""Fits the detectors that judge loss curves, and reports on curves that the fit has not seen.

python -m benchmarks.detection.curves [--check] [--report]

Without an option: fit on the calibration half (even seeds of each family, the first half of the simulated curves
within each label), freeze the choice in ``calibration.json``, report on the other half. ``--report`` reports on both
halves with the detectors' defaults, without a fit. ``--check`` only compares those defaults with what was frozen.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.detection.curves.figures import figures, left_out, overfitting
from benchmarks.detection.curves.fit import DETECTORS, GRID, Fit, fit
from benchmarks.detection.curves.zoo import simulated, zoo

import failguard

FROZEN = Path(__file__).with_name("calibration.json")
CALIBRATION_SEEDS, REPORT_SEEDS = (0, 2, 4), (1, 3, 5)
FULL = 1  # epochs to the next one of the simulated curves, for the figures of overfitting
HALVES = {"calibration": (CALIBRATION_SEEDS, 0), "report": (REPORT_SEEDS, 1)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare the defaults with the frozen values, and no more")
    parser.add_argument("--report", action="store_true", help="report on both halves with the defaults, fit nothing")
    arguments = parser.parse_args()
    if arguments.check:
        sys.exit(_say_differences(differences()))
    began = time.perf_counter()
    if arguments.report:
        for half in HALVES:
            print(page(half, _half(half, DETECTORS)))
        return
    chosen, searches = _fit()
    detectors = {search.code: search.detector(search.chosen) for search in searches}
    result = {
        "command": "python -m benchmarks.detection.curves",
        "versions": {"failguard": failguard.__version__, "numpy": np.__version__, "python": platform.python_version()},
        "simulated_curves": bool(simulated()),
        "chosen": chosen,
        "grid": GRID,
        "seeds": {"calibration": CALIBRATION_SEEDS, "report": REPORT_SEEDS},
        "left_out": left_out(searches),
    } | {half: _half(half, detectors) for half in HALVES}
    FROZEN.write_text(json.dumps(result, indent=1) + "\n")
    for half in HALVES:
        print(page(half, result[half]))
    out = result["left_out"]
    print(
        f"Each healthy family judged by settings chosen without it: {out['error']:.1%} of {out['runs']} runs with an "
        f"error, {out['warning']:.1%} with a warning."
    )
    print(f"Frozen in {FROZEN.name} after {time.perf_counter() - began:.0f} s.")
    sys.exit(_say_differences(differences()))


def differences() -> list[str]:
    """Where the detectors' defaults are not what was frozen."""
    frozen = json.loads(FROZEN.read_text())["chosen"]
    return [
        f"{type(DETECTORS[code]).__name__}.{name} is {getattr(DETECTORS[code], name)}, frozen is {value}"
        for code, values in frozen.items()
        for name, value in values.items()
        if getattr(DETECTORS[code], name) != value
    ]


def page(half: str, result: Mapping[str, Any]) -> str:
    """The figures of one half as Markdown."""
    healthy, faulty = result["healthy"], result["faulty"]
    lines = [
        f"## The {half} half",
        "",
        f"Healthy: {healthy['runs']} runs, {healthy['error']:.1%} with an error, {healthy['warning']:.1%} with a "
        f"warning or worse, {healthy['info']:.1%} with anything at all.",
        f"Faulty: {faulty['runs']} runs, {faulty['found']:.1%} found, {faulty['right_code']:.1%} with the right code, "
        f"{faulty['right_root']:.1%} with the right root; {faulty['codes']} codes a run.",
        f"Missed: {faulty['missed']}",
        f"False alarms: {healthy['alarms']}",
        "",
    ]
    codes = sorted({code for said in result["confusion"].values() for code in said} - {"runs"})
    lines.append("| right code | runs | recall | " + " | ".join(codes) + " |")
    lines.append("|---|---" + "|---" * (len(codes) + 1) + "|")
    for code, said in result["confusion"].items():
        counts = " | ".join(str(said.get(c, 0)) for c in codes)
        lines.append(f"| {code} | {said['runs']} | {result['recall'][code]['share']:.0%} | {counts} |")
    for name, found in result["overfitting"].items():
        lines += ["", f"Overfitting on the simulated curves, {name}: {found}"]
    return "\n".join([*lines, ""])


def _half(half: str, detectors: Mapping[str, Any]) -> dict[str, Any]:
    seeds, number = HALVES[half]
    every = list(detectors.values())
    print(f"asking all detectors of the {half} half", file=sys.stderr, flush=True)
    result = figures([*zoo(seeds), *(c for c in simulated() if c.seed == number)], every)
    judge = detectors["metric.overfitting"]
    result["overfitting"] = {"every fifth epoch": overfitting([c for c in simulated() if c.seed == number], judge)}
    if half == "report":
        result["overfitting"]["every epoch"] = overfitting([c for c in simulated(FULL) if c.seed == number], judge)
    return result


def _fit() -> tuple[dict[str, dict[str, float]], list[Fit]]:
    curves = [*zoo(CALIBRATION_SEEDS), *(c for c in simulated() if c.seed == 0)]
    chosen: dict[str, dict[str, float]] = {}
    searches = []
    for code in GRID:
        began = time.perf_counter()
        search = fit(code, curves)
        searches.append(search)
        chosen[code] = dict(zip(GRID[code], search.chosen, strict=True))
        took = time.perf_counter() - began
        print(f"{code}: {chosen[code]} ({len(search.verdicts)} settings, {took:.0f} s)", file=sys.stderr, flush=True)
    return chosen, searches


def _say_differences(found: Sequence[str]) -> int:
    for line in found:
        print(line)
    print("The defaults are not the frozen values." if found else "The defaults are the frozen values.")
    return 1 if found else 0


if __name__ == "__main__":
    main()
