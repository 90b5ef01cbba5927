"""A process that runs programs one after the other: jobs come on stdin, results go to a descriptor, a line each.

    python -m benchmarks.detection.worker DESCRIPTOR

A job is ``{"program", "variant", "seed", "watch"}``, where ``watch`` is ``"failguard"``, ``"nobody"`` or
``"peer:NAME"``.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import time
import traceback
import warnings
from typing import Any

for name, value in (("TF_CPP_MIN_LOG_LEVEL", "3"), ("OMP_NUM_THREADS", "1"), ("KERAS_BACKEND", "tensorflow")):
    os.environ.setdefault(name, value)

from benchmarks.detection.program import PROGRAMS, Program  # noqa: E402 - after the settings above
from benchmarks.detection.watches import FailGuardWatch, Nobody  # noqa: E402
from benchmarks.detection.zoo import load  # noqa: E402

__all__ = ["run_job", "seen"]


def run_job(job: dict[str, Any]) -> dict[str, Any]:
    """Run one program and say what its watcher found. Never raises."""
    load(job["program"].split("/")[0])
    program = PROGRAMS[job["program"]]
    _reset(program, job["seed"])
    watch = _watch_for(job["watch"], program)
    result: dict[str, Any] = {**job}
    started = time.perf_counter()
    try:
        result["skill"] = program.train(watch, job["variant"] == "faulty", job["seed"])
    except Exception as error:
        result["skill"] = -1.0
        result["error"] = f"{type(error).__name__}: {error}"[:500]
        result["trace"] = traceback.format_exc()[-2000:]
    result["seconds"] = round(time.perf_counter() - started, 3)
    try:
        result.update(seen(watch))
    except Exception as error:
        result["error"] = f"reading what was seen: {type(error).__name__}: {error}"[:500]
    return result


def seen(watch: Any) -> dict[str, Any]:
    """What a watcher has to say, as plain values."""
    if isinstance(watch, Nobody):
        return {"steps": watch.probe.steps, "first_bad": watch.probe.first_bad}
    if not isinstance(watch, FailGuardWatch):
        return dict(watch.seen())
    if watch.guard is None or watch.guard.report is None:
        raise RuntimeError("the program trained without its guard")
    report = watch.guard.report
    return {
        "status": report.status.value,
        "findings": [
            {"code": f.code, "severity": f.severity.value, "step": f.step, "epoch": f.epoch, "message": f.message}
            for f in report.findings
        ],
        "root": None if report.root is None else report.root.code,
        "causes": [c.code for c in report.diagnosis.causes],
        "confidences": [round(c.confidence, 3) for c in report.diagnosis.causes],
        "steps": report.progress.steps,
        "planned_steps": report.progress.planned_steps,
        "part_errors": [f"{e.part}: {e.message}" for e in report.part_errors],
        "notes": list(report.notes),
        "overhead_share": report.overhead.share,
    }


def _watch_for(name: str, program: Program) -> Any:
    if name == "failguard":
        return FailGuardWatch(program.framework)
    if name == "nobody":
        return Nobody(program.framework)
    from benchmarks.detection.peers import peer_watch

    return peer_watch(name.removeprefix("peer:"), program.framework)


def _reset(program: Program, seed: int) -> None:
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    if program.framework == "keras":
        import keras

        keras.backend.clear_session()
        keras.config.set_dtype_policy("float32")
        keras.utils.set_random_seed(seed)
        return
    import torch

    torch.manual_seed(seed)


def _quiet() -> None:
    warnings.simplefilter("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "failguard", "tensorflow", "absl"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _one_thread(framework: str) -> None:
    if framework == "keras":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    else:
        import torch

        torch.set_num_threads(1)


def main() -> None:
    """Serve jobs until stdin ends."""
    _quiet()
    ready_for: set[str] = set()
    with os.fdopen(int(sys.argv[1]), "w") as out:
        for line in sys.stdin:
            job = json.loads(line)
            framework = job["program"].split("/")[0]
            if framework not in ready_for:
                _one_thread(framework)
                ready_for.add(framework)
            out.write(json.dumps(run_job(job)) + "\n")
            out.flush()


if __name__ == "__main__":
    main()
