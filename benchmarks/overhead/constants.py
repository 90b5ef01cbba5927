"""What does not belong to a step: memory, the local record, calls to a tracking server, a server that is down, import.

Each part runs in a process of its own: ``python -m benchmarks.overhead.constants PART``.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["PARTS", "measure_constants"]

STARTS = 11  # fresh processes for a median
LIMIT_S = 1500


class _Host:
    """A training without a model."""

    def apply(self, decision: Any) -> None:
        return None

    def weights_bytes(self) -> int:
        return 0

    def save_weights(self) -> None:
        return None

    def restore_weights(self) -> None:
        return None

    def non_finite_weights(self) -> list[str]:
        return []

    def learning_rate(self) -> float | None:
        return 1e-3

    def locate(self, finding: Any) -> Any:
        return None


def _guard(sinks: Sequence[Any]) -> Any:
    from failguard.core.facts import Facts
    from failguard.guard import Guard
    from failguard.settings import Settings

    guard = Guard(Settings(sinks=list(sinks)), _Host(), "torch")
    guard.start(Facts(framework="torch", max_steps=1_000_000))
    guard.start_epoch(0)
    return guard


def _step(guard: Any, step_s: float | None = None) -> None:
    step = guard.step
    noise = random.random()
    guard.record_loss(2.0 * math.exp(-step / 2e5) + 0.3 + 0.1 * noise)
    if guard.gradient_due:
        guard.record_gradient(1.0 + noise, 2e-5)
    guard.allow_update()
    if not guard.end_quiet_batch():
        guard.end_batch(step_s)


def memory(steps: int = 1_000_000) -> dict[str, Any]:
    """Memory of the process and size of the local record over a long run of steps, driven through the guard itself."""
    import psutil

    from failguard.sinks.files import LocalRecord

    process = psutil.Process()
    with tempfile.TemporaryDirectory() as folder:
        guard = _guard([LocalRecord(folder)])
        curve, start_bytes = [], 0
        for step in range(steps):
            _step(guard)
            if step == 1000:
                start_bytes = process.memory_info().rss
            if step and step % 10_000 == 0:
                guard.end_epoch({"val_loss": 1.0 / (1 + step)}, validated=True)
                guard.start_epoch(guard.epoch + 1)
            if step in (10_000, 100_000, steps // 2):
                curve.append({"steps": step, "grown_bytes": process.memory_info().rss - start_bytes})
        grown = process.memory_info().rss - start_bytes
        guard.finish()
        record = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
    return {
        "steps": steps,
        "memory_grown_bytes": grown,
        "memory_curve": [*curve, {"steps": steps, "grown_bytes": grown}],
        "record_bytes": record,
        "findings": [f.code for f in guard.report.findings],
    }


def loop_memory(steps: int = 100_000) -> dict[str, Any]:
    """Memory of the process over a plain loop with a tiny model, watched and not."""
    import psutil
    import torch

    torch.set_num_threads(1)
    from failguard.torch import FailGuard

    process = psutil.Process()

    def train(watched: bool) -> int:
        net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
        x, y = torch.randn(8, 4), torch.randn(8, 1)
        guard = FailGuard(net, optimizer, sinks=[]) if watched else None
        before = 0
        for step in range(steps):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(net(x), y)
            loss.backward()
            if guard is None or guard.step(loss=loss, batch=(x, y)):
                optimizer.step()
            if step == 3000:
                before = process.memory_info().rss
        grown = process.memory_info().rss - before
        if guard is not None:
            guard.close()
        return grown

    return {"steps": steps, "plain_grown_bytes": train(False), "watched_grown_bytes": train(True)}


def tracking(rate: float, seconds: float = 65.0) -> dict[str, Any]:
    """Calls to MLflow a minute at some steps a second, counted at the client."""
    from mlflow.tracking import MlflowClient

    from failguard.sinks.mlflow import MlflowSink

    calls: Counter[str] = Counter()
    for name in [n for n in dir(MlflowClient) if not n.startswith("_") and callable(getattr(MlflowClient, n))]:
        setattr(MlflowClient, name, _counted(getattr(MlflowClient, name), name, calls))
    with tempfile.TemporaryDirectory() as folder:
        guard = _guard([MlflowSink(tracking_uri=f"sqlite:///{folder}/mlflow.db")])
        began = time.perf_counter()
        while time.perf_counter() - began < 10.0:  # connecting and making the run is no part of it
            _step(guard)
            time.sleep(0.1)
        before, first, began = sum(calls.values()), guard.step, time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            for _ in range(int(passed * rate) - (guard.step - first)):
                _step(guard)
            time.sleep(min(0.02, 1 / rate))
        made, steps = sum(calls.values()) - before, guard.step - first
        guard.finish()
    return {
        "steps_per_s": steps / passed,
        "calls_per_minute": 60 * made / passed,
        "calls_by_name": dict(calls),
    }


def _counted(original: Callable[..., Any], name: str, calls: Counter[str]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        return original(*args, **kwargs)

    return call


def dead_server(steps: int = 20_000) -> dict[str, Any]:
    """A step of the guard, and the end of the run, with no server, one that refuses, and one that never answers."""
    from failguard.sinks.files import LocalRecord
    from failguard.sinks.mlflow import MlflowSink

    found: dict[str, Any] = {"steps": steps}
    with socket.socket() as hung, socket.socket() as closed, tempfile.TemporaryDirectory() as folder:
        hung.bind(("127.0.0.1", 0))
        hung.listen(1)  # takes connections and says nothing
        closed.bind(("127.0.0.1", 0))  # refuses them
        addresses = {
            "none": None,
            "refuses": f"http://127.0.0.1:{closed.getsockname()[1]}",
            "hangs": f"http://127.0.0.1:{hung.getsockname()[1]}",
        }
        import mlflow  # noqa: F401 - else its import would be part of the first

        _guard([LocalRecord(Path(folder) / "first")]).finish()  # loads what a report needs
        for name, uri in addresses.items():
            sinks: list[Any] = [LocalRecord(Path(folder) / name)]
            guard = _guard(sinks if uri is None else [*sinks, MlflowSink(tracking_uri=uri)])
            times = []
            for _ in range(steps):
                began = time.perf_counter()
                _step(guard)
                times.append(time.perf_counter() - began)
            began = time.perf_counter()
            guard.finish()
            found[name] = {
                "step_us": 1e6 * statistics.median(times),
                "finish_s": time.perf_counter() - began,
                "longest_step_ms": 1e3 * max(times),
            }
    return found


def starts() -> dict[str, Any]:
    """Time of ``import failguard`` and of ``failguard --help`` in fresh processes, and what the import loads."""
    code = (
        "import sys, time; t = time.perf_counter(); import failguard; s = time.perf_counter() - t; import json; "
        "heavy = [m for m in ('numpy', 'torch', 'lightning', 'keras', 'tensorflow', 'mlflow', 'pandas') "
        "if m in sys.modules]; print(json.dumps([s, heavy]))"
    )
    imports = [json.loads(_output([sys.executable, "-c", code])) for _ in range(STARTS)]
    bare, helps = [], []
    for _ in range(STARTS):
        bare.append(_seconds([sys.executable, "-c", "pass"]))
        helps.append(_seconds([sys.executable, "-m", "failguard", "--help"]))
    return {
        "import_ms": 1e3 * statistics.median(s for s, _ in imports),
        "import_range_ms": [1e3 * min(s for s, _ in imports), 1e3 * max(s for s, _ in imports)],
        "import_loads": imports[0][1],
        "help_ms": 1e3 * statistics.median(helps),
        "python_alone_ms": 1e3 * statistics.median(bare),
    }


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1]


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, capture_output=True, check=True)
    return time.perf_counter() - began


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "memory": memory,
    "loop memory": loop_memory,
    "tracking at 10 steps/s": lambda: tracking(10.0),
    "tracking at 10,000 steps/s": lambda: tracking(10_000.0),
    "dead server": dead_server,
    "starts": starts,
}
"""Every part by name."""


def measure_constants(names: Sequence[str] = tuple(PARTS)) -> dict[str, Any]:
    """Run parts, each in a process of its own.

    Returns:
        What each found; ``{"said": ...}`` for one that could not be run.
    """
    found = {}
    for name in names:
        began = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.overhead.constants", name]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
            last = (done.stderr if done.returncode else done.stdout).strip().splitlines()[-1]
            found[name] = {"said": last[:300]} if done.returncode else json.loads(last)
        except (subprocess.SubprocessError, IndexError, ValueError) as error:
            found[name] = {"said": str(error)[:300]}
        print(f"{name:<28} {time.perf_counter() - began:6.1f} s  {json.dumps(found[name])[:200]}", flush=True)
    return found


if __name__ == "__main__":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    logging.getLogger("failguard").setLevel(logging.ERROR)
    print("\n" + json.dumps(PARTS[sys.argv[1]]()))
