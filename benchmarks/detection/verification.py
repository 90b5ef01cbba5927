"""Which faulty programs really fail: unwatched runs of all, kept in ``verified.json`` until a program changes."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.detection import data
from benchmarks.detection.pool import run_jobs
from benchmarks.detection.program import PROGRAMS, Program, Run
from benchmarks.detection.scoring import Check, check_runs

__all__ = ["FILE", "verify"]

FILE = Path(__file__).with_name("verified.json")


def verify(
    runs: Sequence[Run],
    *,
    workers: int,
    again: bool = False,
    on_result: Callable[[Mapping[str, Any], int], None] = lambda result, left: None,
) -> dict[str, Check]:
    """The checks of runs, and of the twins that they need.

    Args:
        runs: Which.
        workers: Processes at a time.
        again: Run all of them, whatever is known.
        on_result: Called with each new result and how many are left.

    Returns:
        By ``program:variant:seed``.
    """
    known: dict[str, dict[str, Any]] = json.loads(FILE.read_text())["runs"] if FILE.exists() else {}
    wanted = {r.key: r for r in runs}
    wanted |= {t.key: t for r in runs if r.faulty for t in [Run(r.program, "fixed", r.seed)]}
    missing = [r for k, r in wanted.items() if again or known.get(k, {}).get("source") != _source(PROGRAMS[r.program])]
    left = len(missing)

    def take(result: Mapping[str, Any]) -> None:
        nonlocal left
        left -= 1
        on_result(result, left)

    jobs = [{"program": r.program, "variant": r.variant, "seed": r.seed, "watch": "nobody"} for r in missing]
    for result in run_jobs(jobs, workers=workers, on_result=take):
        run = Run(result["program"], result["variant"], result["seed"])
        known[run.key] = {
            "source": _source(PROGRAMS[run.program]),
            "skill": round(float(result.get("skill", -1.0)), 4),
            "steps": result.get("steps"),
            "first_bad": result.get("first_bad"),
            **({"error": result["error"]} if "error" in result else {}),
        }
    if missing:
        _write(known)
    return check_runs(
        {"program": r.program, "variant": r.variant, "seed": r.seed, **known[k]} for k, r in wanted.items()
    )


def _write(known: Mapping[str, Mapping[str, Any]]) -> None:
    names = {
        f"{run.program}:{run.variant}" for p in PROGRAMS.values() for run in (Run(p.name, v, 0) for v in p.variants)
    }
    frameworks = {p.framework for p in PROGRAMS.values()}
    kept = {
        key: known[key]
        for key in sorted(known)
        if key.rsplit(":", 1)[0] in names or key.split("/")[0] not in frameworks  # not loaded in this run
    }
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in kept.items())
    FILE.write_text(f'{{"python": "{sys.version.split()[0]}", "runs": {{\n{lines}\n}}}}\n')


@cache
def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _source(program: Program) -> str:
    """Changes with the module that a program is in, and with the data."""
    parts = _digest(str(program.module)) + _digest(inspect.getfile(data))
    return hashlib.sha256(parts.encode()).hexdigest()[:12]
