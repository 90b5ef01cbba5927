"""How long a guard takes to look for earlier failures, over an index of many runs.

python benchmarks/memory.py [RUNS]

Writes benchmarks/results/memory.md and .json. The index holds one line of work in two hundred that is looked at, with
twenty values a configuration, and failures that a learning rate sets apart. A lookup is what the guard's thread does:
it opens the index, reads the newest runs of the line, compares. The start of a guard is timed with and without memory,
in turns, and by the training thread's own processor time.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from failguard.core.facts import Facts, ModelFacts, OptimizerFacts
from failguard.guard import Guard
from failguard.report.outcome import Outcome
from failguard.runs.entry import RunEntry
from failguard.runs.index import RunIndex, store_uri
from failguard.runs.memory import MAX_FAILED, MAX_GOOD, MAX_PARTIAL
from failguard.runs.memory_settings import FailureMemory
from failguard.runs.recall import recall
from failguard.runs.similarity import values_of
from failguard.settings import Settings
from failguard.sinks.mlflow import MlflowSink

RESULTS = Path(__file__).parent / "results"
RUNS = 100_000
LINES = 200
TIMES = 15
PAGE = 5_000
CONFIG = {"lr": 0.5, "seed": 1, **{f"value_{k}": 2 for k in range(20)}}
SETUP = {"model": "Net", "optimizer": "SGD", "learning_rate": 0.5, "loss": "mse", "parameters": 1000}


class Host:
    """A framework that does nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None


class NoStore(MlflowSink):
    """Known by its address, and never called."""

    def start(self, report: Any) -> None: ...

    progress = finish = start


def entry(i: int, draw: random.Random) -> RunEntry:
    rate = 10 ** draw.uniform(-4, 0.5)
    failed = rate > 0.3 and draw.random() < 0.9
    outcome = Outcome.FAILURE if failed else Outcome.SUCCESS if draw.random() < 0.8 else Outcome.PARTIAL
    started = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=5 * i)
    line = f"line {i % LINES}"
    return RunEntry(
        f"{i:032x}", "1", line, f"run-{i}", "stopped" if failed else "completed", started, started, outcome, True,
        line=line, record_id=f"r{i}", steps=100, metrics={f"val_{k}": draw.random() for k in range(10)},
        finding="loss.divergence" if failed else None, cause="learning_rate_too_high" if failed else None,
        fingerprint=f"{i % 997:016x}" if failed else None, setup={**SETUP, "learning_rate": rate},
        config={**CONFIG, "lr": rate, "seed": i, **{f"value_{k}": draw.choice([1, 2, 3, 4]) for k in range(20)}},
    )  # fmt: skip


def look(index: RunIndex, line: str | None) -> str:
    memory = FailureMemory()
    filters = {} if line is None else {"line": line}
    found: list[RunEntry] = []
    for outcome, limit in (("failure", MAX_FAILED), ("success", MAX_GOOD), ("partial", MAX_PARTIAL)):
        found += RunIndex(index.path).entries(outcome=outcome, limit=limit, **filters)  # type: ignore[arg-type]
    told = recall(values_of(CONFIG, SETUP, memory), found, memory)
    return "silent" if told is None else told.message


def start(memory: bool) -> tuple[float, float]:
    guard = Guard(Settings(sinks=[NoStore()], memory=memory, experiment="line 0", resources=False), Host(), "torch")
    optimizer, model = OptimizerFacts(name="SGD", learning_rate=0.5), ModelFacts(name="Net", parameters=1000)
    facts = Facts(framework="torch", config=CONFIG, optimizer=optimizer, model=model, loss_name="mse")
    began, cpu = time.perf_counter(), time.thread_time()
    guard.start(facts)
    took = time.perf_counter() - began, time.thread_time() - cpu
    guard.finish()
    return took


def row(what: str, seconds: Iterable[float], cpu: Iterable[float]) -> dict[str, Any]:
    wall = sorted(1e3 * s for s in seconds)
    return {
        "what": what, "median_ms": statistics.median(wall), "lowest_ms": wall[0], "highest_ms": wall[-1],
        "cpu_ms": 1e3 * statistics.median(cpu), "times": len(wall),
    }  # fmt: skip


def main() -> None:
    logging.getLogger("failguard").setLevel(logging.ERROR)
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ["FAILGUARD_CACHE_DIR"] = folder
        index, draw = RunIndex.for_store(store_uri()), random.Random(0)
        for first in range(0, runs, PAGE):
            index.put([entry(i, draw) for i in range(first, min(first + PAGE, runs))])
        size_mb = index.path.stat().st_size / 1e6
        for what, line in (("a line with failures", "line 0"), ("all lines", None), ("a line without runs", "none")):
            times = []
            for _ in range(TIMES):
                began, cpu = time.perf_counter(), time.process_time()
                look(index, line)
                times.append((time.perf_counter() - began, time.process_time() - cpu))
            rows.append(row(f"lookup, {what}", *zip(*times, strict=True)))
        starts: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        for i in range(TIMES):
            for memory in (True, False) if i % 2 else (False, True):
                starts[memory].append(start(memory))
        for memory, taken in starts.items():
            rows.append(row(f"start of a guard, {'with' if memory else 'without'} memory", *zip(*taken, strict=True)))
    write(rows, runs, size_mb)


def write(rows: list[dict[str, Any]], runs: int, size_mb: float) -> None:
    load = f"load average {os.getloadavg()[0]:.0f}" if hasattr(os, "getloadavg") else "load not known"
    machine = f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs, {load}"
    lines = [
        f"# Looking for earlier failures among {runs:,} runs",
        "",
        f"{machine}. `python benchmarks/memory.py {runs}`. The index has {size_mb:.0f} MB. Training waits 300 ms at "
        "most. CPU is that of the process for a lookup, that of the training thread for a start.",
        "",
        "| what | median ms | lowest to highest | CPU ms | times |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {r['what']} | {r['median_ms']:.1f} | {r['lowest_ms']:.1f} to {r['highest_ms']:.1f} | {r['cpu_ms']:.1f} "
            f"| {r['times']} |"
            for r in rows
        ),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "memory.md").write_text(text, encoding="utf-8")
    value = {"machine": machine, "runs": runs, "index_mb": size_mb, "rows": rows}
    (RESULTS / "memory.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
