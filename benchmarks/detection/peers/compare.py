"""Runs peers on a fixed part of the zoo and keeps what came out.

The part is chosen by rule: the programs of the report half, all their variants, seed 0.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.detection.peers import PEERS, Peer
from benchmarks.detection.peers.environments import NotInstallable, python_for
from benchmarks.detection.peers.judging import Verdict, peer_figures, verdict
from benchmarks.detection.pool import run_jobs
from benchmarks.detection.program import PROGRAMS, Run
from benchmarks.detection.scoring import Check

__all__ = ["FILE", "RULE", "chosen_peers", "compare", "compared_runs", "known", "write"]

FILE = "detection-peers.json"
RULE = "report half, all variants, seed 0"
FRAMEWORK_PACKAGES = ("torch", "lightning", "keras", "tensorflow")

Say = Callable[[str], None]


def compared_runs(runs: Iterable[Run]) -> list[Run]:
    """Those of some runs that the rule chooses."""
    return [run for run in runs if run.seed == 0 and PROGRAMS[run.program].half == "report"]


def chosen_peers(only: str) -> list[Peer]:
    """Peers by parts of their names.

    Args:
        only: Separated by commas; ``"all"`` is all.

    Raises:
        ValueError: A part is in no name.
    """
    parts = [] if only == "all" else [part.strip().lower() for part in only.split(",")]
    for part in parts:
        if not any(part in name.lower() for name in PEERS):
            raise ValueError(f"no peer has {part!r} in its name; known are {', '.join(PEERS)}")
    return [peer for name, peer in PEERS.items() if not parts or any(part in name.lower() for part in parts)]


def compare(
    runs: Sequence[Run],
    checks: Mapping[str, Check],
    *,
    workers: int = 1,
    only: str = "all",
    say: Say = lambda line: print(line, flush=True),
    keep: Callable[[dict[str, Any]], object] = lambda found: None,
) -> dict[str, Any]:
    """Let peers watch programs.

    Args:
        runs: From which :func:`compared_runs` are taken.
        checks: By ``program:variant:seed``, see ``verification``.
        workers: Processes at a time.
        only: See :func:`chosen_peers`.
        say: Told how it goes, a line at a time.
        keep: Given what is returned for each peer as soon as it is through, so that a later end loses nothing.

    Returns:
        ``rule`` and ``peers``: by name ``version``, ``wiring``, ``frameworks``, ``date``, and either ``figures`` (see
        ``judging``), ``runs`` and ``seconds`` or ``not_installable``, the reason.
    """
    chosen = compared_runs(runs)
    found: dict[str, Any] = {"rule": RULE, "peers": {}}
    for peer in chosen_peers(only):
        entry = _entry(peer, chosen, checks, workers, say)
        found["peers"][peer.name] = entry
        keep({"rule": RULE, "peers": {peer.name: entry}})
    return found


def _entry(peer: Peer, chosen: Sequence[Run], checks: Mapping[str, Check], workers: int, say: Say) -> dict[str, Any]:
    began = time.perf_counter()
    about = {
        "package": peer.package,
        "version": peer.pin or version(peer.package),
        "wiring": peer.wiring,
        "frameworks": list(peer.frameworks),
        "date": time.strftime("%Y-%m-%d"),
        "with": {package: version(package) for package in FRAMEWORK_PACKAGES},
        "python": sys.version.split()[0],
    }
    say(f"{peer.name} {about['version']}")
    try:
        python = python_for(peer)
    except NotInstallable as error:
        say(f"  not installable here: {error}")
        return {**about, "not_installable": str(error)}
    watched = [run for run in chosen if PROGRAMS[run.program].framework in peer.frameworks]
    jobs = [{"program": r.program, "variant": r.variant, "seed": r.seed, "watch": f"peer:{peer.name}"} for r in watched]
    left = len(jobs)
    verdicts: dict[str, Verdict] = {}

    def take(result: Mapping[str, Any]) -> None:
        nonlocal left
        left -= 1
        run = Run(result["program"], result["variant"], result["seed"])
        truth = PROGRAMS[run.program].truth if run.faulty else None
        verdicts[run.key] = seen = verdict(result, truth, checks[run.key])
        heard = seen.unusable or seen.broke or ", ".join(seen.said) or "nothing"
        say(f"  [{left} left] {run.key:<58} {seen.counts_as}: {heard}")

    run_jobs(jobs, workers=workers, python=python, on_result=take)
    elsewhere = [
        Verdict(run.key, checks[run.key].counts_as, unusable="framework") for run in chosen if run not in watched
    ]
    return {
        **about,
        "seconds": round(time.perf_counter() - began, 1),
        "figures": peer_figures([*verdicts.values(), *elsewhere]),
        "runs": [verdicts[run.key].to_dict() for run in watched],
    }


def known(folder: Path) -> dict[str, Any] | None:
    """What was kept in a folder, if anything."""
    file = folder / FILE
    return json.loads(file.read_text()) if file.exists() else None


def write(folder: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    """Keep new results, and the old ones of the peers that were not run now. Returns all of them."""
    before = known(folder) or {"peers": {}}
    entries = {**before["peers"], **found["peers"]}
    kept = {**found, "peers": {name: entries[name] for name in PEERS if name in entries}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(_text(kept))
    return kept


def _text(kept: Mapping[str, Any]) -> str:
    """JSON with a line a run, so that it can be read and compared."""
    peers = []
    for name, entry in kept["peers"].items():
        lines = [f'   "{key}": {json.dumps(value)}' for key, value in entry.items() if key != "runs"]
        if "runs" in entry:
            rows = ",\n".join(f"    {json.dumps(row)}" for row in entry["runs"])
            lines.append(f'   "runs": [\n{rows}\n   ]')
        peers.append(f"  {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n  }")
    return f'{{\n "rule": {json.dumps(kept["rule"])},\n "peers": {{\n' + ",\n".join(peers) + "\n }\n}\n"
