"""How the cost of watching grows: with steps, layers, parameters, ranks and steps a second.

Each part measures a few sizes that fit on this machine and fits a model that is stated beside the figures;
``docs/scale.md`` extrapolates with it.

    python -m benchmarks.scale [--only steps,layers,...] [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.overhead.constants import _guard, _step
from benchmarks.overhead.environment import context

__all__ = ["PARTS", "main"]

Rows = list[dict[str, float]]


def fit_line(x: list[float], y: list[float]) -> tuple[float, float]:
    """Least squares: intercept and slope."""
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    spread = sum((a - mean_x) ** 2 for a in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread if spread else 0.0
    return mean_y - slope * mean_x, slope


def _median_s(function: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def steps(sizes: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)) -> dict[str, Any]:
    """A step of the guard, a look of the detectors, the report and the record, after runs of several lengths."""
    from failguard.core.event import Event
    from failguard.sinks.files import LocalRecord

    rows: Rows = []
    for n in sizes:
        random.seed(0)
        with tempfile.TemporaryDirectory() as folder:
            guard = _guard([LocalRecord(folder)])
            for _ in range(n):
                _step(guard)
            step_s = _median_s(lambda g=guard: _step(g), 2000)  # type: ignore[misc]
            look_s = _median_s(lambda g=guard: g._look(Event.STEP), 50)  # type: ignore[misc]
            report_s = _median_s(lambda g=guard: g.report, 5)  # type: ignore[misc]
            guard.finish()
            record = sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file())
        rows.append(
            {
                "steps": n,
                "step_us": 1e6 * step_s,
                "look_us": 1e6 * look_s,
                "report_ms": 1e3 * report_s,
                "record_mb": record / 1e6,
            }
        )
    return {
        "rows": rows,
        "model": "constant: a series keeps at most 8,192 values and 1,024 blocks, whatever its length",
    }


def layers(sizes: tuple[int, ...] = (4, 25, 100, 400)) -> dict[str, Any]:
    """Pass over all gradients, and one sample from inside the model, by the number of layers of width 64."""
    import torch
    from torch import nn

    from failguard.torch.internals import InsideWatch
    from failguard.torch.measure import global_norm, gradients

    torch.set_num_threads(1)
    rows: Rows = []
    for n in sizes:
        net = nn.Sequential(*(layer for _ in range(n) for layer in (nn.Linear(64, 64), nn.ReLU())))
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
        net(torch.randn(8, 64)).square().mean().backward()
        inside = InsideWatch(net)

        def sample(watch: InsideWatch = inside, optimizer: Any = optimizer) -> None:
            watch.begin(0, 0, [optimizer], 1.0)
            watch._stepped = True
            watch.end()
            watch.end()

        rows.append(
            {
                "layers": n,
                "gradient_pass_us": 1e6 * _median_s(lambda m=net: global_norm(gradients(m.parameters())), 30),  # type: ignore[misc]
                "sample_ms": 1e3 * _median_s(sample, 7),
            }
        )
    small = [r for r in rows if r["layers"] <= 200]
    x = [r["layers"] for r in small]
    a, b = fit_line(x, [r["sample_ms"] for r in small])
    c, d = fit_line([r["layers"] for r in rows], [r["gradient_pass_us"] for r in rows])
    return {
        "rows": rows,
        "model": f"gradient pass {c:.0f} + {d:.2f} n us; a sample {a:.2f} + {b:.3f} n ms up to 200 layers, constant "
        "above, as no more are looked at",
        "gradient_us_per_layer": d,
    }


def parameters(sizes: tuple[int, ...] = (1_000_000, 3_000_000, 10_000_000, 30_000_000)) -> dict[str, Any]:
    """Passes over all gradients and weights, and a copy of the weights, by the number of parameters in 8 layers."""
    import torch
    from torch import nn

    from failguard.torch.measure import Sentinel, global_norm, gradients
    from failguard.torch.snapshot import Snapshot, non_finite_parameters

    torch.set_num_threads(1)
    rows: Rows = []
    for n in sizes:
        width = round(math.sqrt(n / 8))
        net = nn.Sequential(*(nn.Linear(width, width) for _ in range(8)))
        for p in net.parameters():
            p.grad = torch.randn_like(p)
        count = sum(p.numel() for p in net.parameters())
        sentinel, snapshot = Sentinel(net, net.parameters()), Snapshot(net)
        snapshot.save()
        rows.append(
            {
                "parameters": count,
                "every_step_us": 1e6 * _median_s(sentinel.value, 200),
                "gradient_pass_ms": 1e3 * _median_s(lambda m=net: global_norm(gradients(m.parameters())), 7),  # type: ignore[misc]
                "weights_check_ms": 1e3 * _median_s(lambda m=net: non_finite_parameters(m), 7),  # type: ignore[misc]
                "copy_ms": 1e3 * _median_s(snapshot.save, 5),
                "copy_mb": snapshot.size_bytes / 1e6,
            }
        )
    _, slope = fit_line([r["parameters"] for r in rows], [r["gradient_pass_ms"] for r in rows])
    return {
        "rows": rows,
        "model": f"a pass over all gradients reads 4 bytes a parameter at {4e-6 / slope:.1f} GB/s; what runs at every "
        "step does not depend on the size; a copy takes 4 bytes a parameter",
        "gradient_gb_per_s": 4e-6 / slope,
    }


def ranks(sizes: tuple[int, ...] = (1, 2, 4, 8)) -> dict[str, Any]:
    """The two agreements among ranks, over gloo on this machine: medians of rank 0."""
    rows: Rows = []
    start = multiprocessing.get_context("spawn")
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            results = start.SimpleQueue()
            workers = [start.Process(target=_rank, args=(i, n, f"{folder}/store", results)) for i in range(n)]
            for worker in workers:
                worker.start()
            rows.append(results.get())
            for worker in workers:
                worker.join()
    _, per_rank = fit_line([r["ranks"] for r in rows[1:]], [r["compare_us"] for r in rows[1:]])
    _, per_doubling = fit_line([math.log2(r["ranks"]) for r in rows[1:]], [r["agree_us"] for r in rows[1:]])
    return {
        "rows": rows,
        "model": f"agreement {per_doubling:.0f} us a doubling of the ranks, every 16 steps; comparison {per_rank:.1f} "
        "us a rank, every 256 steps. Processes here share the cores: more of them than cores wait for each other, as "
        "ranks on machines of their own do not",
        "agree_us_per_doubling": per_doubling,
        "compare_us_per_rank": per_rank,
    }


def _rank(index: int, count: int, store: str, results: Any) -> None:
    import torch
    from torch import distributed

    from failguard.torch.ranks import any_rank, of_each_rank

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=index, world_size=count)
    cpu = torch.device("cpu")
    for _ in range(20):
        any_rank(False, cpu)
    agree_s = _median_s(lambda: any_rank(False, cpu), 300)
    compare_s = _median_s(lambda: of_each_rank(1.0, cpu), 300)
    distributed.barrier()
    if index == 0:
        results.put({"ranks": count, "agree_us": 1e6 * agree_s, "compare_us": 1e6 * compare_s})
    distributed.destroy_process_group()


def rates(sizes: tuple[float, ...] = (10.0, 100.0, 1_000.0, 10_000.0)) -> dict[str, Any]:
    """The interval that each sampled check settles at, by steps a second, at the costs of a small model."""
    from failguard.accounting import Accounting

    costs_s = {"gradients": 50e-6, "detectors": 250e-6, "internals": 1.5e-3}
    every_step_s = 10e-6
    rows: Rows = []
    for rate in sizes:
        accounting = Accounting(0.01)
        step_s = 1.0 / rate
        accounting.weigh_every_step(every_step_s, step_s, 10_000)
        total = every_step_s
        row = {"steps_per_s": rate}
        for name, cost_s in costs_s.items():
            cadence = getattr(accounting, name)
            for step in range(8):
                cadence.ran(step, cost_s, step_s)
            total += cost_s / cadence.every_steps
            row[f"{name}_every_steps"] = cadence.every_steps
        row["share_percent"] = 100 * total / step_s
        rows.append(row)
    return {
        "rows": rows,
        "model": "an interval is the cost of a check over its share of the step's time, at most 4,096 steps; what "
        "keeps bad updates away from the weights runs at every step. Costs given: 10 us a step, 50 us a gradient pass, "
        "250 us a look of the detectors, 1.5 ms a sample from inside",
    }


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "steps": steps,
    "layers": layers,
    "parameters": parameters,
    "ranks": ranks,
    "rates": rates,
}
"""Every part by name."""


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    path = arguments.out / "scale.json"
    kept = json.loads(path.read_text()) if path.exists() else {"parts": {}}
    for name in arguments.only.split(","):
        kept["parts"][name] = PARTS[name]()
        print(f"{name}: {kept['parts'][name]['model']}", flush=True)
    kept = {**context("python -m benchmarks.scale " + " ".join(sys.argv[1:])), "parts": kept["parts"]}
    arguments.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=2) + "\n")
    (arguments.out / "scale.md").write_text(markdown(kept))
    print("\n" + (arguments.out / "scale.md").read_text())


def markdown(kept: dict[str, Any]) -> str:
    """The figures with what they were measured on."""
    versions = ", ".join(f"{name} {v}" for name, v in kept["versions"].items())
    load = kept["load_at_start"]
    lines = [
        "# How the cost of watching grows",
        "",
        f"{kept['machine']}; Python {kept['python']}, {versions}; load {load:.1f} at the start; {kept['date']}. "
        f"`{kept['command'].strip()}`",
    ]
    for name, part in kept["parts"].items():
        names = list(part["rows"][0])
        lines += ["", f"## {name.capitalize()}", "", f"Model: {part['model']}.", ""]
        lines += ["| " + " | ".join(n.replace("_", " ") for n in names) + " |", "|" + "---|" * len(names)]
        lines += ["| " + " | ".join(_figure(row[n]) for n in names) + " |" for row in part["rows"]]
    return "\n".join([*lines, ""])


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or float(value).is_integer() else f"{value:.3g}"


if __name__ == "__main__":
    main()
