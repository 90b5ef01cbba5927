"""What watching resources costs: the sampling threads per second, and the readings at steps.

``make bench-resources`` prints a table and writes ``benchmarks/results/resources.json`` and ``.md``. Processor time is
counted per thread, so that what else runs on the machine does not count.
"""

from __future__ import annotations

import argparse
import json
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from failguard._version import __version__
from failguard.core.history import History
from failguard.resources import ResourceLimits, RunWatch, Sampler
from failguard.resources.hang_watch import HangWatch
from failguard.resources.machine import usable_cpus
from failguard.resources.step_memory import StepMemory

RESULTS = Path(__file__).parent / "results"


def sampling(seconds: float) -> dict[str, float]:
    """A sampler at its default interval, after its first sample, which loads what it needs."""
    sampler = Sampler(ResourceLimits(), directories=["."])
    sampler.start()
    time.sleep(5.0)
    before = sampler.summary()
    time.sleep(seconds)
    after = sampler.summary()
    sampler.stop()
    used_s = after["sampler_cpu_s"] - before["sampler_cpu_s"]
    samples = after["samples"] - before["samples"]
    return {
        "seconds": after["duration_s"] - before["duration_s"],
        "samples": samples,
        "cpu_ms_per_sample": 1e3 * used_s / samples,
        "share_of_a_core_percent": 100.0 * used_s / (after["duration_s"] - before["duration_s"]),
        "first_sample_ms": 1e3 * before["sampler_cpu_s"],
    }


def hang_watch(seconds: float) -> dict[str, float]:
    """The watch for hangs while steps go on."""
    used: list[float] = []

    def beat() -> float:
        used.append(time.thread_time())
        return time.monotonic()

    watch = HangWatch(beat, lambda values: False)
    watch.start()
    time.sleep(seconds)
    watch.stop()
    return {"share_of_a_core_percent": 100.0 * (used[-1] - used[0]) / seconds}


def per_step() -> dict[str, float]:
    """Microseconds a training step."""
    memory = StepMemory()
    reading = _microseconds(lambda: memory.read(0), 20_000)
    memory.close()
    history = History()
    watch = RunWatch(ResourceLimits(interval_s=3600), history)
    watch.start([], lambda: 0)
    at = [0]

    def end_step() -> None:
        # As Guard.end_batch does it.
        if at[0] >= watch.next_step:
            watch.end_step(at[0])
        at[0] += 1

    whole = _microseconds(end_step, 100_000)
    watch.stop()
    return {"memory_reading_us": reading, "end_of_step_us": whole}


def _microseconds(call: Callable[[], Any], times: int) -> float:
    """Median over nine rounds."""
    rounds = []
    for _ in range(9):
        started = time.thread_time()
        for _ in range(times // 9):
            call()
        rounds.append(1e6 * (time.thread_time() - started) / (times // 9))
    return sorted(rounds)[4]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="How long the threads are watched.")
    seconds = parser.parse_args().seconds
    found: dict[str, Any] = {
        "failguard": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "usable_cpus": usable_cpus(),
        "threads": threading.active_count(),
        "sampler": sampling(seconds),
        "hang_watch": hang_watch(min(seconds, 30.0)),
        "steps": per_step(),
    }
    sampler, steps = found["sampler"], found["steps"]
    rows = [
        ("sampler, default of one sample a second", f"{sampler['share_of_a_core_percent']:.3f} % of a core"),
        ("one sample", f"{sampler['cpu_ms_per_sample']:.2f} ms"),
        ("the first sample, with what it loads", f"{sampler['first_sample_ms']:.0f} ms, once"),
        ("watch for hangs", f"{found['hang_watch']['share_of_a_core_percent']:.3f} % of a core"),
        ("one reading of memory at a step", f"{steps['memory_reading_us']:.1f} us"),
        ("readings at steps, spread over all steps", f"{steps['end_of_step_us']:.2f} us a step"),
    ]
    table = "\n".join(["| what | processor time |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)])
    text = (
        "# What watching resources costs\n\n"
        f"{table}\n\n"
        f"Python {found['python']}, {found['platform']}, {found['usable_cpus']:g} usable CPUs, no GPU. Processor time "
        f"of the threads themselves, over {sampler['seconds']:.0f} s after the first sample. `make bench-resources`.\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "resources.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "resources.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
