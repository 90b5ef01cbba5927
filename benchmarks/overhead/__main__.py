"""``python -m benchmarks.overhead``: measure what watching costs, print tables, write them under benchmarks/results/.

For each program several trainings run in one process and take turns of about 50 ms: two with an empty callback, the
others watched. A round's figure is the median time of a step in one turn, over the mean of the two empty ones; the
table gives the median over rounds with its 95 % bootstrap interval. Beside it stand the ratio of CPU times, failguard's
own account, and the control: one empty callback against the other, which shows the noise.

    python -m benchmarks.overhead                          # all parts, about 30 minutes
    python -m benchmarks.overhead --minutes 5 --parts sizes
    python -m benchmarks.overhead --parts peers --only lightning-mlp
    python -m benchmarks.overhead --readme                 # the short table of the kept results into README.md

Parts that are not run keep the figures of their last run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.detection.peers.environments import NotInstallable
from benchmarks.overhead.chart import draw
from benchmarks.overhead.constants import measure_constants
from benchmarks.overhead.environment import context, interpreter_for
from benchmarks.overhead.programs import PROGRAMS
from benchmarks.overhead.tables import markdown, put_into_readme, readme
from benchmarks.overhead.watches import LEVELS, PEERS

__all__ = ["PLAN", "main"]

# What is run: programs and the watches in each. Weights share out the time.
PLAN: dict[str, tuple[tuple[str, tuple[str, ...], float], ...]] = {
    "frameworks": (
        ("lightning-mlp", ("standard",), 2.0),
        ("lightning-cnn", ("standard",), 1.0),
        ("lightning-transformer", ("standard",), 1.5),
        ("loop-mlp", ("standard",), 1.5),
        ("loop-transformer", ("standard",), 1.0),
        ("keras-mlp", ("standard",), 1.5),
        ("keras-cnn", ("standard",), 1.0),
        ("keras-transformer", ("standard",), 1.5),
        ("keras-mlp-jit", ("standard",), 1.0),
        ("keras-transformer-jit", ("standard",), 1.0),
        ("keras-mlp-16-steps", ("standard",), 1.0),
    ),
    "levels": (
        ("lightning-mlp", LEVELS, 1.5),
        ("loop-mlp", LEVELS, 1.5),
        ("keras-mlp", LEVELS, 1.5),
    ),
    "sizes": (
        ("lightning-1m", ("standard",), 1.0),
        ("lightning-10m", ("standard",), 1.0),
        ("lightning-50m", ("standard",), 3.0),
        ("keras-1m", ("standard",), 1.0),
        ("keras-10m", ("standard",), 1.0),
        ("lightning-4-layers", ("standard",), 1.0),
        ("lightning-400-layers", ("standard",), 1.0),
        ("keras-4-layers", ("standard",), 1.0),
    ),
}
PEER_PROGRAM = {"lightning": "lightning-mlp", "torch": "loop-mlp", "keras": "keras-mlp"}
PEER_WEIGHT = 0.5
PARTS = (*PLAN, "peers", "constants")
# Beside what is measured, in seconds: imports and warm-up of one program, and the parts that are no programs.
START_S, CONSTANTS_S = 22.0, 280.0
LEAST_SHARE = 0.25  # of the time, that is measured whatever the rest takes


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="about how long it may take")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"comma-separated, of: {', '.join(PARTS)}")
    parser.add_argument("--only", default="", help="programs, comma-separated; default: those of the parts")
    parser.add_argument("--peers", default="", help="other tools, comma-separated; default: all")
    parser.add_argument("--threads", type=int, default=1, help="threads to compute with")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument(
        "--readme", action="store_true", help="put the short table of the kept results into README.md, and stop"
    )
    arguments = parser.parse_args()
    path = arguments.out / "overhead.json"
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if arguments.readme:
        put_into_readme(kept, Path("README.md"))
        print(readme(kept))
        return
    wanted = [p for p in arguments.parts.split(",") if p]
    unknown = [p for p in wanted if p not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}; parts are {', '.join(PARTS)}")
    only = {p for p in arguments.only.split(",") if p}
    if only - set(PROGRAMS):
        parser.error(f"no program {min(only - set(PROGRAMS))!r}; programs are {', '.join(PROGRAMS)}")
    jobs = _jobs(wanted, only, [p for p in arguments.peers.split(",") if p])
    if not jobs and "constants" not in wanted:
        parser.error("there is nothing to measure: none of these programs or tools is in these parts")
    weight = sum(job["weight"] for job in jobs) or 1.0
    rest_s = START_S * len(jobs) + CONSTANTS_S * ("constants" in wanted)
    seconds = max(60 * arguments.minutes - rest_s, LEAST_SHARE * 60 * arguments.minutes)
    kept = kept if "parts" in kept else {"parts": {}}
    started = time.perf_counter()
    command = "python -m benchmarks.overhead " + " ".join(sys.argv[1:])
    for part in dict.fromkeys(job["part"] for job in jobs):
        entry: dict[str, Any] = {**context(command.strip()), "threads": arguments.threads, "rows": []}
        for job in (j for j in jobs if j["part"] == part):
            for row in _run(job, max(seconds * job["weight"] / weight, 2.0), arguments.threads):
                entry["rows"].append(row)
                print(_line(row), flush=True)
        kept["parts"][part] = entry
        _write(kept, arguments.out)
    if "constants" in wanted:
        kept["parts"]["constants"] = {**context(command.strip()), "found": measure_constants()}
        _write(kept, arguments.out)
    print(f"\n{(arguments.out / 'overhead.md').read_text()}\n{(time.perf_counter() - started) / 60:.1f} minutes")


def _jobs(parts: list[str], only: set[str], peers: list[str]) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = []
    for part in parts:
        for program, watches, weight in PLAN.get(part, ()):
            if not only or program in only:
                jobs.append({"part": part, "program": program, "watches": list(watches), "weight": weight})
    if "peers" in parts:
        for name, peer in PEERS.items():
            if peers and name not in peers:
                continue
            for framework in peer.frameworks:
                program = PEER_PROGRAM[framework]
                if not only or program in only:
                    jobs.append(
                        {"part": "peers", "program": program, "watches": [name, "standard"], "weight": PEER_WEIGHT}
                    )
    return jobs


def _run(job: dict[str, Any], seconds: float, threads: int) -> list[dict[str, Any]]:
    """Rows of one program. What cannot be run has a row that says why."""
    program, watches = job["program"], job["watches"]
    failed = {"program": program, "watch": watches[0]}
    try:
        python = interpreter_for(PEERS[watches[0]]) if watches[0] in PEERS else sys.executable
    except NotInstallable as error:
        return [{**failed, "said": f"not installable here: {error}"}]
    given = json.dumps({"program": program, "watches": watches, "seconds": seconds, "threads": threads})
    try:
        done = subprocess.run(
            [python, "-m", "benchmarks.overhead.worker", given], capture_output=True, text=True, timeout=seconds + 600
        )
        lines = (done.stderr if done.returncode else done.stdout).strip().splitlines() or ["no output"]
        if done.returncode:
            return [{**failed, "said": f"cannot be run here: {lines[-1][:200]}"}]
        rows: list[dict[str, Any]] = json.loads(lines[-1])
    except subprocess.TimeoutExpired:
        return [{**failed, "said": f"not done within {seconds + 600:.0f} s"}]
    return rows


def _line(row: dict[str, Any]) -> str:
    if row.get("overhead") is None:
        return f"{row['program']:<24} {row['watch']:<28} {row.get('said', '')}"
    o, own = row["overhead"], row.get("own_us")
    return (
        f"{row['program']:<24} {row['watch']:<28} step {row['step_ms']:8.2f} ms  {o['value']:+7.2f} % "
        f"({o['low']:+.2f} to {o['high']:+.2f})  CPU {row['cpu']['value']:+7.2f} %"
        + (f"  own {own:6.1f} us, {row['own_percent']:.2f} %" if own is not None else "")
        + f"  {row['rounds']} rounds"
    )


def _write(kept: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "overhead.json").write_text(json.dumps(kept, indent=2) + "\n")
    (out / "overhead.md").write_text(markdown(kept))
    draw(kept, out / "overhead-sizes.svg")


if __name__ == "__main__":
    main()
