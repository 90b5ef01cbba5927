"""What a guard costs per training step, against the same run with an empty callback.

Method: for each program, pairs of short trainings in one process, with the guard and with an empty callback, the order
alternating. A training's figure is its median time per step after warm-up; a pair's figure is the ratio of the two.
The table gives the median of the paired ratios with its quartiles, and beside it two figures that do not depend on the
clock between steps: the guard's own accounting and the process CPU time.

    python benchmarks/overhead.py [--pairs 12] [--steps 2000] [--only lightning-mlp,...] [--out benchmarks/results]

Prints a table and writes JSON and Markdown with versions and hardware.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

WARM_UP_STEPS = 300  # caches, first batches that are looked at more closely, start of the sampler
TARGET_PERCENT = 1.0


@dataclass
class Training:
    """One measured training."""

    step_s: float  # median time per step after warm-up
    cpu_s: float  # process CPU time per step after warm-up
    accounted: float  # share of the run that the guard says it took; 0 without a guard
    own_us: float  # microseconds per step that the guard says it took


@dataclass
class Row:
    """One program, over all pairs."""

    program: str
    step_ms: float
    overhead_percent: float
    quartiles_percent: tuple[float, float]
    cpu_percent: float
    accounted_percent: float
    own_us_per_step: float
    pairs: int

    @property
    def target_met(self) -> str:
        """``yes`` or ``no`` only where the quartiles leave no doubt."""
        low, high = self.quartiles_percent
        return "yes" if high <= TARGET_PERCENT else "no" if low > TARGET_PERCENT else "noise"


class Clock:
    """Takes the time at the start of each step."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []

    def tick(self) -> None:
        self.wall.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def training(self, guard: Any) -> Training:
        wall = self.wall[WARM_UP_STEPS:]
        steps = [b - a for a, b in itertools.pairwise(wall)]
        cpu = (self.cpu[-1] - self.cpu[WARM_UP_STEPS]) / (len(wall) - 1)
        overhead = None if guard is None else guard.report.overhead
        return Training(
            step_s=statistics.median(steps),
            cpu_s=cpu,
            accounted=0.0 if overhead is None else overhead.share,
            own_us=0.0 if overhead is None else 1e6 * per_batch_s(overhead.parts_s) / len(self.wall),
        )


def per_batch_s(parts_s: Mapping[str, float]) -> float:
    """Seconds in the hooks that run for every batch; the start and end of a run are left out."""
    return sum(
        s for part, s in parts_s.items() if any(word in part for word in ("batch", "backward", "optimizer", "step"))
    )


def torch_model(kind: str) -> tuple[Any, Callable[[int], Any]]:
    """A model and a function that makes one batch."""
    import torch
    from torch import nn

    if kind == "mlp":
        net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
        return net, lambda i: (torch.randn(32, 64), torch.randint(0, 10, (32,)))
    layer = nn.TransformerEncoderLayer(256, 4, 512, batch_first=True)
    net = nn.Sequential(
        nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), nn.Flatten(), nn.Linear(256 * 16, 10)
    )
    return net, lambda i: (torch.randn(8, 16, 256), torch.randint(0, 10, (8,)))


def lightning(kind: str) -> Callable[[bool, int, Path], Training]:
    """Trainings in Lightning."""
    import lightning as L
    import torch
    from torch.utils.data import DataLoader

    from failguard.lightning import FailGuard

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)

    class Module(L.LightningModule):
        def __init__(self, net: Any, clock: Clock) -> None:
            super().__init__()
            self.net = net
            self.clock = clock

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.clock.tick()
            return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=1e-4)

    def train(guarded: bool, steps: int, folder: Path) -> Training:
        torch.manual_seed(0)
        net, batch = torch_model(kind)
        data = [batch(i) for i in range(50)]
        clock = Clock()
        guard = FailGuard(sinks=[], record_dir=folder) if guarded else None
        trainer = L.Trainer(
            max_steps=steps,
            max_epochs=-1,
            callbacks=[guard or L.Callback()],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Module(net, clock), DataLoader(data, batch_size=None))
        return clock.training(guard)

    return train


def loop(kind: str) -> Callable[[bool, int, Path], Training]:
    """Trainings in a plain loop."""
    import torch

    from failguard.torch import FailGuard

    def train(guarded: bool, steps: int, folder: Path) -> Training:
        torch.manual_seed(0)
        net, batch = torch_model(kind)
        data = [batch(i) for i in range(50)]
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)
        clock = Clock()
        guard = FailGuard(net, optimizer, sinks=[], record_dir=folder) if guarded else None
        if guard is not None:
            guard.__enter__()
        for i in range(steps):
            clock.tick()
            x, y = data[i % 50]
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(x), y)
            loss.backward()
            if guard is None or guard.step(loss=loss, batch=(x, y)):
                optimizer.step()
        if guard is not None:
            guard.__exit__(None, None, None)
        return clock.training(guard)

    return train


def keras(kind: str, **compile_keywords: Any) -> Callable[[bool, int, Path], Training]:
    """Trainings in Keras. With several steps per execution a tick is one execution."""
    import keras as k
    import numpy as np

    from failguard.keras import FailGuard

    class Ticks(k.callbacks.Callback):
        def __init__(self, clock: Clock) -> None:
            super().__init__()
            self.clock = clock

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.clock.tick()

    def model() -> Any:
        if kind == "mlp":
            inputs = k.Input((64,))
            x = k.layers.Dense(128, activation="relu")(inputs)
            x = k.layers.Dense(128, activation="relu")(x)
        else:
            inputs = k.Input((16, 256))
            x = inputs
            for _ in range(4):
                x = k.layers.LayerNormalization()(x + k.layers.MultiHeadAttention(4, 64)(x, x))
                x = k.layers.LayerNormalization()(x + k.layers.Dense(256)(k.layers.Dense(512, activation="relu")(x)))
            x = k.layers.Flatten()(x)
        net = k.Model(inputs, k.layers.Dense(10)(x))
        net.compile("adamw", k.losses.SparseCategoricalCrossentropy(from_logits=True), **compile_keywords)
        return net

    execution = compile_keywords.get("steps_per_execution", 1)

    def train(guarded: bool, steps: int, folder: Path) -> Training:
        k.utils.set_random_seed(0)
        batch = 32 if kind == "mlp" else 8
        n = steps * execution * batch
        shape = (64,) if kind == "mlp" else (16, 256)
        few = np.random.default_rng(0).normal(size=(min(n, 50 * batch), *shape)).astype("float32")
        x = np.resize(few, (n, *shape))
        y = np.random.default_rng(1).integers(0, 10, n)
        clock = Clock()
        guard = FailGuard(sinks=[], record_dir=folder) if guarded else None
        model().fit(
            x,
            y,
            batch_size=batch,
            shuffle=False,
            verbose=0,
            callbacks=[Ticks(clock), guard or k.callbacks.Callback()],
        )
        return clock.training(guard)

    return train


PROGRAMS: dict[str, Callable[[], Callable[[bool, int, Path], Training]]] = {
    "lightning-mlp": lambda: lightning("mlp"),
    "lightning-transformer": lambda: lightning("transformer"),
    "loop-mlp": lambda: loop("mlp"),
    "keras-mlp": lambda: keras("mlp"),
    "keras-mlp-jit": lambda: keras("mlp", jit_compile=True),
    "keras-mlp-16-steps": lambda: keras("mlp", jit_compile=False, steps_per_execution=16),
    "keras-transformer": lambda: keras("transformer"),
}


def measure(program: str, pairs: int, steps: int, folder: Path) -> Row:
    """Run the pairs of one program."""
    train = PROGRAMS[program]()
    ratios, cpu_ratios, accounted, own_us, plain_ms = [], [], [], [], []
    for pair in range(-1, pairs):  # the first pair warms up caches and is not counted
        order = (False, True) if pair % 2 else (True, False)
        measured = {guarded: train(guarded, steps, folder) for guarded in order}
        if pair < 0:
            continue
        plain, watched = measured[False], measured[True]
        ratios.append(watched.step_s / plain.step_s)
        cpu_ratios.append(watched.cpu_s / plain.cpu_s)
        accounted.append(watched.accounted)
        own_us.append(watched.own_us)
        plain_ms.append(1e3 * plain.step_s)
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Row(
        program=program,
        step_ms=statistics.median(plain_ms),
        overhead_percent=100 * (middle - 1),
        quartiles_percent=(100 * (low - 1), 100 * (high - 1)),
        cpu_percent=100 * (statistics.median(cpu_ratios) - 1),
        accounted_percent=100 * statistics.median(accounted),
        own_us_per_step=statistics.median(own_us),
        pairs=pairs,
    )


def markdown(rows: list[Row], context: dict[str, Any]) -> str:
    """The table with what it was measured on."""
    lines = [
        "# Overhead of the default guard",
        "",
        f"Against the same run with an empty callback. {context['machine']}; "
        + ", ".join(f"{name} {v}" for name, v in context["versions"].items())
        + f". {context['command']}",
        "",
        "| program | step, ms | overhead, % (quartiles) | CPU, % | own account, % of run | own, us/step | <= 1 % |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.program} | {r.step_ms:.2f} | {r.overhead_percent:+.1f} ({r.quartiles_percent[0]:+.1f} to "
        f"{r.quartiles_percent[1]:+.1f}) | {r.cpu_percent:+.1f} | {r.accounted_percent:.1f} | "
        f"{r.own_us_per_step:.1f} | {r.target_met} |"
        for r in rows
    ]
    lines += [
        "",
        "The share of the run includes its start and end, which weigh more in runs as short as these; the microseconds "
        "a step do not. Quartiles wider apart than the overhead itself mean that the machine's noise hides it.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--only", default="", help=f"comma-separated, of: {', '.join(PROGRAMS)}")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    programs = [p for p in arguments.only.split(",") if p] or list(PROGRAMS)
    warnings.simplefilter("ignore")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for program in programs:
            row = measure(program, arguments.pairs, arguments.steps, Path(folder))
            rows.append(row)
            print(
                f"{row.program:<24} step {row.step_ms:7.2f} ms  overhead {row.overhead_percent:+6.2f} %  "
                f"({row.quartiles_percent[0]:+.2f} to {row.quartiles_percent[1]:+.2f})  CPU {row.cpu_percent:+6.2f} %  "
                f"own {row.own_us_per_step:6.1f} us/step",
                flush=True,
            )
    context = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "versions": {p: version(p) for p in ("torch", "lightning", "keras", "tensorflow")},
        "command": f"`python benchmarks/overhead.py --pairs {arguments.pairs} --steps {arguments.steps}`",
        "date": time.strftime("%Y-%m-%d"),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = markdown(rows, context)
    (arguments.out / "overhead.md").write_text(text)
    (arguments.out / "overhead.json").write_text(
        json.dumps({**context, "rows": [asdict(r) for r in rows]}, indent=2) + "\n"
    )
    print("\n" + text)


if __name__ == "__main__":
    main()
