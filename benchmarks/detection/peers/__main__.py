"""Runs peers only, and keeps the results for the page of the next benchmark.

python -m benchmarks.detection.peers [--only NAMES] [--workers N] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

from benchmarks.detection.peers.compare import chosen_peers, compare, compared_runs, write
from benchmarks.detection.peers.table import peer_table
from benchmarks.detection.program import FRAMEWORKS, Selection
from benchmarks.detection.verification import verify
from benchmarks.detection.zoo import load

RESULTS = Path(__file__).resolve().parents[2] / "results"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection.peers", description=__doc__)
    parser.add_argument("--only", default="all", help="parts of names of peers, comma-separated")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time (1)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    try:
        chosen_peers(arguments.only)
    except ValueError as error:
        parser.error(str(error))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for framework in FRAMEWORKS:
        load(framework)
    runs = compared_runs(Selection(seeds=1, half="report").runs())
    checks = verify(runs, workers=arguments.workers, on_result=lambda r, left: print(f"unwatched, {left} left"))
    keep = partial(write, arguments.out)
    found = compare(runs, checks, workers=arguments.workers, only=arguments.only, keep=keep)
    print("\n" + "\n".join(peer_table(found)))


if __name__ == "__main__":
    main()
