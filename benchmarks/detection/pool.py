"""Runs jobs in worker processes. A program that hangs or crashes loses its own result only."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Worker", "run_jobs"]

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 120.0  # for one program; the first of a worker also loads its framework
JOBS_A_WORKER = 40  # then a fresh process, since graphs and caches pile up

Job = dict[str, Any]
Result = dict[str, Any]


class Worker:
    """One process and the pipes to it."""

    def __init__(self, python: str) -> None:
        read, write = os.pipe()
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.detection.worker", str(write)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(write,),
            text=True,
        )
        os.close(write)
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.jobs = 0
        threading.Thread(target=self._read, args=(read,), daemon=True).start()

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor) as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def run(self, job: Job, timeout_s: float) -> Result:
        """The result of a job. ``crashed`` in it says that the process is gone."""
        self.jobs += 1
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            self.end()
            return {**job, "crashed": f"no end after {timeout_s:.0f} s"}
        except OSError as error:
            self.end()
            return {**job, "crashed": str(error)}
        if line is None:
            self.end()
            return {**job, "crashed": f"the process ended with {self._process.returncode}"}
        return json.loads(line)

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def run_jobs(
    jobs: Sequence[Job],
    *,
    workers: int = 2,
    python: str = sys.executable,
    timeout_s: float = TIMEOUT_S,
    on_result: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Run jobs, several at a time, and give their results in the order of the jobs.

    Jobs of one framework stay in one process as far as possible, since loading one costs seconds.

    Args:
        jobs: What to run, see ``worker``.
        workers: How many processes at a time.
        python: The interpreter of the workers.
        timeout_s: For one job.
        on_result: Called with each result as it comes, on the calling thread.
    """
    waiting = _by_framework(jobs)
    lock = threading.Lock()
    results: queue.Queue[tuple[int, Result] | None] = queue.Queue()

    def serve() -> None:
        worker: Worker | None = None
        last = ""
        while True:
            with lock:
                taken = _take(waiting, last)
            if taken is None:
                break
            index, job = taken
            framework = _framework(job)
            if worker is not None and (worker.jobs >= JOBS_A_WORKER or framework != last):
                worker.end()
                worker = None
            if worker is None:
                worker = Worker(python)
            last = framework
            result = worker.run(job, timeout_s)
            if "crashed" in result:
                worker = None
            results.put((index, result))
        if worker is not None:
            worker.end()
        results.put(None)

    threads = [threading.Thread(target=serve, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    found: dict[int, Result] = {}
    running = workers
    while running:
        item = results.get()
        if item is None:
            running -= 1
            continue
        found[item[0]] = item[1]
        on_result(item[1])
    return [found[i] for i in sorted(found)]


class Progress:
    """One line a result."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._began = total, 0, time.perf_counter()

    def __call__(self, result: Result, text: str) -> None:
        self._done += 1
        gone = time.perf_counter() - self._began
        left = gone / self._done * (self._total - self._done)
        name = f"{result['program']}:{result['variant']}:{result['seed']}"
        print(f"[{self._done}/{self._total}, {left:.0f} s left] {name:<58} {text}", flush=True)


def _framework(job: Job) -> str:
    return str(job["program"]).split("/")[0]


def _by_framework(jobs: Iterable[Job]) -> dict[str, list[tuple[int, Job]]]:
    waiting: dict[str, list[tuple[int, Job]]] = {}
    for index, job in enumerate(jobs):
        waiting.setdefault(_framework(job), []).append((index, job))
    return {framework: listed[::-1] for framework, listed in waiting.items()}


def _take(waiting: dict[str, list[tuple[int, Job]]], last: str) -> tuple[int, Job] | None:
    """The next job: of the same framework, else of the one with most left."""
    if not waiting.get(last):
        last = max(waiting, key=lambda f: len(waiting[f]), default="")
    return waiting[last].pop() if waiting.get(last) else None
