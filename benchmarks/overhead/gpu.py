"""``make bench-gpu``: what watching costs on a CUDA device, with every wait of the host an error.

    python -m benchmarks.overhead.gpu [--minutes 15] [--only transformer,compiled,...] [--out benchmarks/results]

First each program runs some steps with ``torch.cuda.set_sync_debug_mode("error")``: a guard that waits for the device
in a step fails there. Then an unwatched and a watched training take turns, see ``benchmarks/overhead/turns.py``; at the
end of a turn the device is waited for, so that a turn holds the work it has launched. ``--device cpu`` runs the same
programs at a tiny size, to see that they work; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.overhead.environment import context
from benchmarks.overhead.figures import EMPTY, Row, rows_of
from benchmarks.overhead.turns import Participant, Turns

__all__ = ["PROGRAMS", "Program", "check_syncs", "main", "measure", "train"]

CHECKED_STEPS = 200
FILL = 0.7  # of the device's free memory, for the transformer


@dataclass(frozen=True)
class Program:
    """One training on a device.

    Attributes:
        name: As in the table and on the command line.
        is_compiled: Under ``torch.compile``.
        precision: ``"float32"``, ``"bfloat16"`` (autocast) or ``"float16"`` (autocast with a gradient scaler).
        is_fused: The optimizer's step is one fused kernel.
        is_distributed: Under ``DistributedDataParallel``, alone on its card.
        fills_card: As large as fits; else 4 layers of width 512.
    """

    name: str
    is_compiled: bool = False
    precision: str = "float32"
    is_fused: bool = False
    is_distributed: bool = False
    fills_card: bool = False


PROGRAMS = {
    p.name: p
    for p in (
        Program("small"),
        Program("transformer", precision="bfloat16", is_fused=True, fills_card=True),
        Program("compiled", is_compiled=True, precision="bfloat16", is_fused=True),
        Program("amp-bfloat16", precision="bfloat16"),
        Program("amp-float16", precision="float16"),
        Program("fused", is_fused=True),
        Program("distributed", is_distributed=True, precision="bfloat16", is_fused=True),
    )
}
"""Every program by name."""


def _model(program: Program, device: Any) -> tuple[Any, int, int, int]:
    """The model, and batch, tokens and width of its input."""
    import torch
    from torch import nn

    if device.type == "cpu":
        width, layers, batch, tokens = 32, 2, 2, 8
    elif program.fills_card:
        width, layers, batch, tokens = 2048, 24, 16, 1024
        free = torch.cuda.mem_get_info(device)[0] * FILL
        # Weights, gradients and two moments in float32, and about 34 bytes a token, width and layer of activations.
        fixed = 16 * 12 * layers * width**2
        batch = max(int((free - fixed) / (34 * 2 * tokens * width * layers)), 1)
    else:
        width, layers, batch, tokens = 512, 4, 32, 256
    layer = nn.TransformerEncoderLayer(width, 8, 4 * width, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False), batch, tokens, width


def train(program: Program, device: Any, tick: Callable[[], bool], watched: bool, *, checked: bool = False) -> Any:
    """Train until ``tick`` returns ``False``.

    Args:
        program: Of :data:`PROGRAMS`.
        device: Where.
        tick: Called at the start of each step.
        watched: With the default guard.
        checked: A wait of the host within a step is an error.

    Returns:
        The guard's report, ``None`` without one.
    """
    import torch

    from failguard.torch import FailGuard

    torch.manual_seed(0)
    model, batch, tokens, width = _model(program, device)
    model = model.to(device)
    with _alone(program, device):
        if program.is_distributed:
            model = torch.nn.parallel.DistributedDataParallel(model)
        stepped = torch.compile(model) if program.is_compiled else model
        fused = {"fused": True} if program.is_fused else {}
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, **fused)
        scaler = torch.amp.GradScaler(device.type) if program.precision == "float16" else None
        data = [torch.randn(batch, tokens, width, device=device) for _ in range(4)]
        guard = FailGuard(stepped, optimizer, scaler, sinks=[]) if watched else None
        dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(program.precision)
        step = 0
        with guard if guard is not None else contextlib.nullcontext():
            while tick():
                x = data[step % len(data)]
                with _no_waits(device, checked and step >= 3):  # the first steps compile and make state
                    optimizer.zero_grad()
                    with torch.autocast(device.type, dtype) if dtype is not None else contextlib.nullcontext():
                        loss = stepped(x).square().mean()
                    _backward(loss, scaler)
                    if guard is None or guard.step(loss=loss, batch=x):
                        _update(optimizer, scaler, checked)
                step += 1
    return None if guard is None else guard.report


def _backward(loss: Any, scaler: Any) -> None:
    (loss if scaler is None else scaler.scale(loss)).backward()


def _update(optimizer: Any, scaler: Any, checked: bool) -> None:
    import torch

    if scaler is None:
        optimizer.step()
        return
    # A scaler waits by itself to know whether to skip the step: that is not the guard's.
    mode = torch.cuda.get_sync_debug_mode() if checked and torch.cuda.is_available() else None
    if mode is not None:
        torch.cuda.set_sync_debug_mode("default")
    scaler.step(optimizer)
    scaler.update()
    if mode is not None:
        torch.cuda.set_sync_debug_mode(mode)


@contextlib.contextmanager
def _no_waits(device: Any, checked: bool) -> Iterator[None]:
    import torch

    if not checked or device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@contextlib.contextmanager
def _alone(program: Program, device: Any) -> Iterator[None]:
    """A process group of one, where the program asks for it."""
    import torch.distributed as dist

    if not program.is_distributed or dist.is_initialized():
        yield
        return
    with tempfile.NamedTemporaryFile() as store:
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=f"file://{store.name}.store", rank=0, world_size=1)
        try:
            yield
        finally:
            if len(_IN_USE) == 0:
                dist.destroy_process_group()


_IN_USE: list[str] = []  # programs that take turns share the group


def check_syncs(program: Program, device: Any, steps: int = CHECKED_STEPS) -> str:
    """Run steps in which a wait is an error.

    Returns:
        ``"none"``, or what the error says; also of an error that the guard has contained.
    """
    left = iter(range(steps))
    try:
        report = train(program, device, lambda: next(left, None) is not None, True, checked=True)
    except RuntimeError as error:
        return str(error).splitlines()[0][:200]
    return f"{report.part_errors[0].part}: {report.part_errors[0].message}"[:200] if report.part_errors else "none"


def measure(program: Program, device: Any, seconds: float) -> list[Row]:
    """Let an unwatched, a watched and another unwatched training take turns."""
    import torch

    if device.type == "cuda":
        torch.cuda.init()

    def waiting(tick: Callable[[], bool]) -> Callable[[], bool]:
        def at_step() -> bool:
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # a step holds the work that it has launched
            return tick()

        return at_step

    reports: dict[str, Any] = {}

    def run(name: str, tick: Callable[[], bool]) -> None:
        reports[name] = train(program, device, waiting(tick), name == "standard")

    # Memory holds one large model only: the control is left out there.
    names = (EMPTY[0], "standard") if program.fills_card else (EMPTY[0], "standard", EMPTY[1])
    participants = [Participant(name, partial(run, name), lambda: 0.0) for name in names]
    turns = Turns(participants, turn_s=0.3, warm_up_s=10.0, warm_up_ticks=300)
    _IN_USE.append(program.name)
    try:
        turns.run(seconds)
    finally:
        _IN_USE.remove(program.name)
    return rows_of(program.name, participants)


def main() -> int:
    """Command line. Exit code 2 where there is no CUDA device."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--only", default="", help=f"comma-separated, of: {', '.join(PROGRAMS)}")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("bench-gpu needs an NVIDIA GPU and a torch built for CUDA; torch sees none here. Nothing was measured.")
        return 2
    device = torch.device(arguments.device)
    names = [n for n in arguments.only.split(",") if n] or list(PROGRAMS)
    rows: list[dict[str, Any]] = []
    for name in names:
        program = PROGRAMS[name]
        syncs = check_syncs(program, device, CHECKED_STEPS if device.type == "cuda" else 20)
        found = measure(program, device, 60 * arguments.minutes / len(names))
        for row in found:
            rows.append({**row.to_dict(), "waits": syncs if row.watch == "standard" else "-"})
            overhead = "-" if row.overhead is None else str(row.overhead)
            print(f"{name:<16} {row.watch:<12} step {row.step_ms:8.2f} ms  {overhead} %  waits: {syncs}  {row.said}")
        if device.type == "cuda":
            torch.cuda.empty_cache()
    kept = {
        **context("python -m benchmarks.overhead.gpu " + " ".join(sys.argv[1:])),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU: a trial, no figures",
        "rows": rows,
    }
    if device.type == "cuda":
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "overhead-gpu.json").write_text(json.dumps(kept, indent=2) + "\n")
        (arguments.out / "overhead-gpu.md").write_text(_markdown(kept))
    return 0


def _markdown(kept: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in kept["versions"].items())
    lines = [
        "# What watching costs on a GPU",
        "",
        f"{kept['device']}; {kept['machine']}; {versions}; {kept['date']}. `{kept['command']}`",
        "",
        f"*waits*: what `torch.cuda.set_sync_debug_mode('error')` said over {CHECKED_STEPS} steps with the guard.",
        "",
        "| program | watch | step, ms | overhead, % (95 %) | waits |",
        "|---|---|---|---|---|",
    ]
    for r in kept["rows"]:
        o = r.get("overhead")
        text = r["said"] if o is None else f"{o['value']:+.2f} ({o['low']:+.2f} to {o['high']:+.2f})"
        lines.append(f"| {r['program']} | {r['watch']} | {r['step_ms']:.2f} | {text} | {r['waits']} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    sys.exit(main())
