"""How long the registry takes over a store of many runs.

python benchmarks/registry.py [RUNS] [READS]

Writes benchmarks/results/registry.md and .json. The store is MLflow's own sqlite database; its rows are put in directly
(benchmarks/registry_store.py), as 10,000 runs through MLflow's calls would take the better part of an hour. Each figure
is of a whole process, from its start to its end, with the files in the cache of the system.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
sys.path.insert(0, str(Path(__file__).parents[1]))
RUNS = 10_000
LISTS = 9  # of each way to list
READS = 3

READ_ONCE = """
import sys
from mlflow.tracking import MlflowClient
client = MlflowClient(tracking_uri=sys.argv[1])
ids, token, runs = [e.experiment_id for e in client.search_experiments()], None, 0
while True:
    page = client.search_runs(ids, max_results=1000, page_token=token)
    runs += len(page)
    token = page.token
    if not token:
        break
print(runs)
"""
FIRST_INDEX = """
import sys
from failguard.runs import Registry
print(Registry(sys.argv[1]).refresh())
"""
ALL_ENTRIES = """
import sys
from failguard.runs import Registry
print(len(Registry(sys.argv[1]).list()))
"""


class Timed:
    """Runs commands and keeps their times."""

    def __init__(self, cache: Path) -> None:
        self.environment = {**os.environ, "FAILGUARD_CACHE_DIR": str(cache), "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.rows: list[dict[str, Any]] = []

    def once(self, command: list[str]) -> tuple[float, float, str]:
        """Seconds, seconds of the processor, and what it printed."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return seconds, cpu, done.stdout

    def row(self, what: str, command: list[str], times: int, prepare: Callable[[int], object] | None = None) -> float:
        found = []
        for i in range(times):
            if prepare is not None:
                prepare(i)
            found.append(self.once(command)[:2])
        return self.add(what, found)

    def add(self, what: str, found: list[tuple[float, float]]) -> float:
        seconds = [s for s, _ in found]
        row = {
            "what": what,
            "median_s": round(statistics.median(seconds), 3),
            "lowest_s": round(min(seconds), 3),
            "highest_s": round(max(seconds), 3),
            "cpu_s": round(statistics.median(c for _, c in found), 3),
            "times": len(found),
        }
        self.rows.append(row)
        print(f"{what:<64} {row['median_s']:8.3f} s  ({row['lowest_s']} to {row['highest_s']}, CPU {row['cpu_s']})")
        return float(statistics.median(seconds))


def python(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", script, *arguments]


def failguard(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "failguard", *arguments]


def over(
    timed: Timed, uri: str, runs: int, where: str, change: Callable[[int], object], reads: int
) -> dict[str, float]:
    """All figures of one store. The first index and MLflow's reading take turns."""
    forget = lambda: [path.unlink() for path in Path(timed.environment["FAILGUARD_CACHE_DIR"]).rglob("*.db*")]  # noqa: E731
    read, index = [], []
    for _ in range(reads):
        seconds, cpu, out = timed.once(python(READ_ONCE, uri))
        assert int(out) == runs
        read.append((seconds, cpu))
        forget()
        seconds, cpu, out = timed.once(python(FIRST_INDEX, uri))
        assert int(out) == runs
        index.append((seconds, cpu))
    timed.add(f"{where}: MLflow reads all runs once", read)
    timed.add(f"{where}: the first index", index)
    at = ["--store", uri]
    found = {
        "first_index_over_reading": statistics.median(i[0] / r[0] for i, r in zip(index, read, strict=True)),
        "list_s": timed.row(f"{where}: runs list", failguard("runs", "list", *at), LISTS),
        "list_changed_s": timed.row(
            f"{where}: runs list, after a tag of an old run was edited", failguard("runs", "list", *at), LISTS, change
        ),
    }
    some = ["--finding", "loss.divergence", "--config", "lr>=0.1", "--since", "2026-01-01"]
    found["filtered_s"] = timed.row(
        f"{where}: runs list {' '.join(some)}", failguard("runs", "list", *some, *at), LISTS
    )
    return found


def main() -> None:
    from benchmarks.registry_store import make_store

    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    reads = int(sys.argv[2]) if len(sys.argv) > 2 else READS
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="failguard_bench_") as name:
        folder = Path(name)
        database = folder / "mlflow.db"
        began = time.perf_counter()
        uri = make_store(database, runs)
        print(f"{runs:,} runs, {database.stat().st_size / 1e6:.0f} MB, made in {time.perf_counter() - began:.0f} s")
        timed = Timed(folder / "cache")
        timed.row("python -c pass", python("pass"), LISTS)
        timed.row("failguard --help", failguard("--help"), LISTS)

        def change(number: int) -> None:
            with closing(sqlite3.connect(database)) as connection, connection:
                connection.execute(
                    "UPDATE tags SET value = ? WHERE key = 'mlflow.source.name' AND run_uuid = (SELECT min(run_uuid) "
                    "FROM runs)", (f"train{number}.py",)
                )  # fmt: skip

        figures["sqlite"] = over(timed, uri, runs, "sqlite", change, reads)
        timed.row("sqlite: Registry.list(), every run", python(ALL_ENTRIES, uri), 3)
        timed.row("sqlite: runs list --no-refresh", failguard("runs", "list", "--no-refresh", "--store", uri), LISTS)
        index = next(Path(timed.environment["FAILGUARD_CACHE_DIR"]).rglob("*.db"))
        figures["store_mb"] = round(database.stat().st_size / 1e6)
        figures["index_mb"] = round(index.stat().st_size / 1e6)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = serve(folder, uri, port, timed.environment)
        try:
            figures["http"] = over(timed, f"http://127.0.0.1:{port}", runs, "server", change, 1)
        finally:
            server.terminate()
            server.wait(30)
    write(timed, figures, runs)


def serve(folder: Path, uri: str, port: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """An ``mlflow server`` over the store."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", uri, "--artifacts-destination", str(folder / "artifacts")]
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={**environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        )
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
                return process
        except OSError:
            assert process.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.2)
    raise AssertionError((folder / "server.log").read_text())


def write(timed: Timed, figures: dict[str, Any], runs: int) -> None:
    from importlib.metadata import version

    machine = (
        f"Python {platform.python_version()}, MLflow {version('mlflow')}, {platform.machine()}, {os.cpu_count()} CPUs"
    )
    cpu = {row["what"]: row["cpu_s"] for row in timed.rows}
    goals = [
        ("`failguard runs list`, nothing changed", figures["sqlite"]["list_s"], cpu["sqlite: runs list"], "<= 0.5 s"),
        (
            "`failguard runs list`, a tag of an old run was edited",
            figures["sqlite"]["list_changed_s"],
            cpu["sqlite: runs list, after a tag of an old run was edited"],
            "<= 0.5 s",
        ),
        (
            "first index over reading the runs once",
            figures["sqlite"]["first_index_over_reading"],
            cpu["sqlite: the first index"] / cpu["sqlite: MLflow reads all runs once"],
            "<= 1.5",
        ),
    ]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    lines = [
        f"# The registry over {runs:,} runs",
        "",
        f"{machine}; load average at the end {load}. `python benchmarks/registry.py {runs}`. The store has "
        f"{figures['store_mb']} MB, the index {figures['index_mb']} MB. The store's rows were put into MLflow's tables "
        "directly. Every time is that of a whole process, from its start to its end. On a machine that does other work "
        "the processor's time (CPU) is the better figure: what the process would take at least on a free core.",
        "",
        "| goal, sqlite store | measured | by CPU time | wanted |",
        "| --- | --- | --- | --- |",
        *(f"| {what} | {value:.2f} | {own:.2f} | {wanted} |" for what, value, own, wanted in goals),
        "",
        "| what | median s | lowest to highest | CPU s | times |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {r['what']} | {r['median_s']:.2f} | {r['lowest_s']:.2f} to {r['highest_s']:.2f} | {r['cpu_s']:.2f} "
            f"| {r['times']} |"
            for r in timed.rows
        ),
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "registry.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    value = {"machine": machine, "runs": runs, "figures": figures, "load_average": os.getloadavg(), "rows": timed.rows}
    (RESULTS / "registry.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
