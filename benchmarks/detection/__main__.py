"""Runs the zoo and writes the figures. See README.md beside this file.

python -m benchmarks.detection [--only PATTERN] [--framework keras] [--seeds N] [--half report] [--workers N]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.detection.peers.compare import chosen_peers, compare, compared_runs, known, write
from benchmarks.detection.pool import Progress, run_jobs
from benchmarks.detection.program import FRAMEWORKS, PROGRAMS, Run, Selection
from benchmarks.detection.scoring import Check, Score, figures, score
from benchmarks.detection.tables import half, headline, misses, page
from benchmarks.detection.verification import verify
from benchmarks.detection.zoo import load

RESULTS = Path(__file__).resolve().parents[1] / "results"
PACKAGES = ("torch", "lightning", "keras", "tensorflow", "numpy", "scikit-learn")


def main() -> None:
    """Command line."""
    arguments = _arguments()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for framework in [arguments.framework] if arguments.framework else FRAMEWORKS:
        load(framework)
    runs = Selection(arguments.only, arguments.framework, arguments.seeds, arguments.half).runs()
    if not runs:
        sys.exit("No program matches. Try --only '' or python -m benchmarks.detection --list.")
    if arguments.list:
        for program in PROGRAMS.values():
            print(f"{program.name:<44} {program.half:<12} {'/'.join(program.variants):<14} {program.about}")
        return
    if arguments.peers:
        try:
            chosen_peers(arguments.peers)
        except ValueError as error:
            sys.exit(f"--peers: {error}")
        if not compared_runs(runs):
            sys.exit("--peers: they watch programs of the report half only. Try --half report.")
    began = time.perf_counter()
    checks = verify(runs, workers=arguments.workers, again=arguments.verify, on_result=_say_verified)
    progress = Progress(len(runs))
    jobs = [{"program": r.program, "variant": r.variant, "seed": r.seed, "watch": "failguard"} for r in runs]

    def say(result: Mapping[str, Any]) -> None:
        progress(dict(result), _in_words(result, checks))

    results = run_jobs(jobs, workers=arguments.workers, on_result=say)
    scores = [_scored(result, checks) for result in results]
    context = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "python": platform.python_version(),
        "versions": {p: version(p) for p in PACKAGES},
        "seeds": list(range(arguments.seeds)),
        "command": "python -m benchmarks.detection " + " ".join(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"),
        "seconds": time.perf_counter() - began,
    }
    if arguments.peers:
        keep = partial(write, arguments.out)
        compare(runs, checks, workers=arguments.workers, only=arguments.peers, keep=keep)
    peers = known(arguments.out) or known(RESULTS)  # those of an earlier time stay on the page
    _write(arguments.out, scores, results, checks, context, peers)
    if arguments.misses:
        listed = misses(half(scores, "calibration"))
        arguments.misses.write_text("\n".join(["# Calibration half", "", *headline(scores), "", *listed, ""]))
    print("\n" + "\n".join(headline(scores)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.detection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", help="parts of names, comma-separated")
    parser.add_argument("--framework", default="", choices=("", *FRAMEWORKS))
    parser.add_argument("--seeds", type=int, default=2, help="runs of each program (2)")
    parser.add_argument("--half", default="both", choices=("report", "calibration", "both"))
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (2)")
    parser.add_argument("--verify", action="store_true", help="run all programs unwatched again, see verified.json")
    parser.add_argument("--peers", nargs="?", const="all", default="", help="peers too, in environments of their own")
    parser.add_argument("--list", action="store_true", help="name the programs and end")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--misses", type=Path, help="write what went wrong in the calibration half to this file")
    return parser.parse_args()


def _scored(result: Mapping[str, Any], checks: Mapping[str, Check]) -> Score:
    run = Run(result["program"], result["variant"], result["seed"])
    truth = PROGRAMS[run.program].truth if run.faulty else None
    return score(result, truth, checks[run.key])


def _in_words(result: Mapping[str, Any], checks: Mapping[str, Check]) -> str:
    if "crashed" in result:
        return f"CRASHED: {result['crashed']}"
    s = _scored(result, checks)
    said = ", ".join(s.raised) or "nothing"
    if s.counts_as == "faulty":
        verdict = "found" if s.found else "MISSED"
    elif s.counts_as == "healthy":
        verdict = f"FALSE ALARM ({s.alarm})" if s.alarm else "silent"
    else:
        verdict = s.counts_as
    return f"{verdict}: {said} ({result['seconds']:.1f} s)"


def _say_verified(result: Mapping[str, Any], left: int) -> None:
    name = f"{result['program']}:{result['variant']}:{result['seed']}"
    print(f"unwatched, {left} left: {name:<58} skill {result.get('skill', 'crashed')}", flush=True)


def _write(
    out: Path,
    scores: Sequence[Score],
    results: Sequence[Mapping[str, Any]],
    checks: Mapping[str, Check],
    context: Mapping[str, Any],
    peers: Mapping[str, Any] | None,
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "detection.md").write_text(page(scores, context, peers))
    rows = []
    for s, result in zip(scores, results, strict=True):
        program = PROGRAMS[result["program"]]
        truth = program.truth if result["variant"] == "faulty" else None
        rows.append(
            {
                **s.to_dict(),
                "half": program.half,
                "skill": checks[s.run].skill,
                "expected": None if truth is None else list(truth.roots),
                "also": None if truth is None else list(truth.also),
                "expected_causes": None if truth is None else list(truth.causes),
                "findings": result.get("findings", []),
                "causes": result.get("causes", []),
                "planned_steps": result.get("planned_steps"),
                "steps": result.get("steps"),
                "status": result.get("status"),
                **{k: result[k] for k in ("crashed", "error") if k in result},
                **({"part_errors": result["part_errors"]} if result.get("part_errors") else {}),
            }
        )
    record = {
        **context,
        "figures": {name: figures(half(scores, name)) for name in ("report", "calibration")},
        "runs": rows,
    }
    (out / "detection.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
