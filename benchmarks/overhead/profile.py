"""Where a step's time in failguard goes: CPU time by hook on the training thread, and calls counted.

CPU time of a thread does not count what other processes take, so it can be told on a busy machine too.

    python -m benchmarks.overhead.profile --label after [--steps 6000] [--only lightning-mlp,...]

To compare with an earlier state, run it with that state's ``src`` first on PYTHONPATH and another label.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from time import thread_time
from typing import Any

from benchmarks.overhead.counting import StepCounter
from benchmarks.overhead.programs import PROGRAMS
from benchmarks.overhead.watches import watch_for
from benchmarks.overhead.worker import _quiet

__all__ = ["profile"]

DEFAULT = ("lightning-mlp", "loop-mlp", "keras-mlp", "keras-mlp-jit")
WARM_UP = 2500
HOOKS = ("on_train_batch_start", "on_before_backward", "on_before_optimizer_step", "on_train_batch_end")


class _Clock:
    """Adds up the CPU time of calls, by step. Calls within a call are part of it."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.now: dict[str, float] = defaultdict(float)
        self._depth = 0
        self.empty_s = self._cost()

    def wrap(self, owner: Any, name: str, part: str | None = None) -> None:
        original = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._depth:
                return original(*args, **kwargs)
            self._depth += 1
            began = thread_time()
            try:
                return original(*args, **kwargs)
            finally:
                self.now[part or name] += thread_time() - began - self.empty_s
                self._depth -= 1

        setattr(owner, name, timed)

    def tick(self) -> None:
        self.steps.append(dict(self.now))
        self.now.clear()

    @staticmethod
    def _cost() -> float:
        costs = []
        for _ in range(2000):
            began = thread_time()
            costs.append(thread_time() - began)
        return statistics.median(costs)


@contextlib.contextmanager
def _wrapped(framework: str, clock: _Clock) -> Iterator[None]:
    """Wrap what the framework calls. In a process of its own, so nothing is put back."""
    if framework == "lightning":
        guard = import_module("failguard.lightning").FailGuard
        for name in HOOKS:
            clock.wrap(guard, name)
    elif framework == "torch":
        clock.wrap(import_module("failguard.torch").FailGuard, "step")
    else:
        clock.wrap(import_module("failguard.keras.fit_watch").FitWatch, "_after_call", "after a call")
        tap = import_module("failguard.keras.tap_tensorflow").TensorFlowTap
        original = tap.call

        def call(self: Any, function: Callable[..., Any], args: Any) -> Any:
            inner = 0.0

            def timed(*a: Any) -> Any:
                nonlocal inner
                began = thread_time()
                try:
                    return function(*a)
                finally:
                    inner = thread_time() - began

            began = thread_time()
            try:
                return original(self, timed, args)
            finally:
                clock.now["around a call"] += thread_time() - began - inner - 2 * clock.empty_s

        tap.call = call
    yield


def profile(program: str, steps: int) -> dict[str, Any]:
    """Profile the standard guard in one program.

    Returns:
        CPU microseconds a step by hook (mean, and median for an ordinary step), and calls.
    """
    training = PROGRAMS[program]
    _quiet(training.framework, 1)
    clock = _Clock()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        with _wrapped(training.framework, clock):
            seen = 0

            def tick() -> bool:
                nonlocal seen
                seen += 1
                clock.tick()
                return seen < WARM_UP + steps

            training.train(watch_for("standard", training.framework, Path(folder)).given, tick)
        counter = StepCounter(WARM_UP, 1024)
        seen = 0

        def count() -> bool:
            nonlocal seen
            seen += 1
            counter.tick()
            return seen < WARM_UP + 1030

        training.train(watch_for("standard", training.framework, Path(folder)).given, count)
        counter.close()
    rows = clock.steps[WARM_UP:]
    parts = sorted({name for row in rows for name in row})
    totals = [sum(row.values()) for row in rows]
    per = training.steps_per_tick
    return {
        "program": program,
        "steps": len(rows) * per,
        "mean_us": 1e6 * statistics.fmean(totals) / per,
        "ordinary_us": 1e6 * statistics.median(totals) / per,
        "by_hook_us": {p: round(1e6 * statistics.fmean(r.get(p, 0.0) for r in rows) / per, 2) for p in parts},
        "calls_ordinary": counter.counts.ordinary_calls,
        "calls_mean": counter.counts.mean_calls / per,
        "builtin_calls_mean": counter.counts.mean_builtin_calls / per,
    }


def main() -> None:
    """Command line. Each program has a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--label", default="now")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--only", default=",".join(DEFAULT))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        print("\n" + json.dumps(profile(arguments.inside, arguments.steps)))
        return
    path = arguments.out / "overhead-profile.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    found = kept.setdefault(arguments.label, {})
    for program in arguments.only.split(","):
        command = [sys.executable, "-m", "benchmarks.overhead.profile", "--inside", program]
        done = subprocess.run([*command, "--steps", str(arguments.steps)], capture_output=True, text=True)
        if done.returncode:
            print(f"{program}: {done.stderr.strip().splitlines()[-1]}")
            continue
        row = json.loads(done.stdout.strip().splitlines()[-1])
        found[program] = row
        print(f"{program:<24} {row['mean_us']:6.1f} us a step, ordinary {row['ordinary_us']:6.1f}; {row['by_hook_us']}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(kept, indent=2) + "\n")
    (arguments.out / "overhead-profile.md").write_text(_markdown(kept))


def _markdown(kept: dict[str, Any]) -> str:
    lines = [
        "# Profile of the hot path",
        "",
        "CPU time on the training thread in failguard's hooks, microseconds a step after warm-up, torch operations in "
        "them included, the timer's own cost taken off; and calls of failguard's own functions. An ordinary step is "
        "one in which no check is due. `python -m benchmarks.overhead.profile --label LABEL`.",
        "",
        "| program | state | us a step | ordinary step, us | by hook | calls in an ordinary step | calls, mean |",
        "|---|---|---|---|---|---|---|",
    ]
    programs = list(dict.fromkeys(p for rows in kept.values() for p in rows))
    for program in programs:
        for label, rows in kept.items():
            if program in rows:
                r = rows[program]
                hooks = ", ".join(f"{name} {us:.1f}" for name, us in r["by_hook_us"].items())
                lines.append(
                    f"| {program} | {label} | {r['mean_us']:.1f} | {r['ordinary_us']:.1f} | {hooks} | "
                    f"{r['calls_ordinary']} | {r['calls_mean']:.1f} |"
                )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
