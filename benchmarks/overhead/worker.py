"""One program in a process of its own: ``python -m benchmarks.overhead.worker`` reads its job from JSON."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.overhead.figures import EMPTY, rows_of
from benchmarks.overhead.programs import PROGRAMS
from benchmarks.overhead.turns import Participant, Turns
from benchmarks.overhead.watches import LEVELS, watch_for

from failguard import guard as own_guard

__all__ = ["measure"]


def measure(
    program: str,
    watches: list[str],
    *,
    seconds: float,
    turn_s: float = 0.05,
    warm_up_s: float = 4.0,
    warm_up_ticks: int = 2300,
    threads: int = 1,
) -> list[dict[str, Any]]:
    """Let watches and two empty callbacks take turns in a program.

    Args:
        program: Of :data:`~benchmarks.overhead.programs.PROGRAMS`.
        watches: See :func:`~benchmarks.overhead.watches.watch_for`.
        seconds: To measure, beside warm-up.
        turn_s: Length of a turn.
        warm_up_s, warm_up_ticks: Of each training, whichever is reached first.
        threads: For torch and TensorFlow to compute with.

    Returns:
        Rows as plain values.
    """
    training = PROGRAMS[program]
    _quiet(training.framework, threads)
    with tempfile.TemporaryDirectory() as folder:
        participants = []
        for i, name in enumerate((EMPTY[0], *watches, EMPTY[1])):
            place = Path(folder) / str(i)
            place.mkdir()
            try:
                watch = watch_for(name, training.framework, place)
            except Exception as error:
                participants.append(Participant(name, lambda tick: None, lambda: 0.0, error=error, is_over=True))
                continue
            participants.append(Participant(name, partial(training.train, watch.given), watch.spent))
        able = [p for p in participants if p.error is None]
        # Progress is told by the clock. A training that has a part of the time is to tell it as often in its steps.
        own_guard.PROGRESS_EVERY_S *= len(able)
        turns = Turns(able, turn_s=turn_s, warm_up_s=warm_up_s, warm_up_ticks=warm_up_ticks)
        with contextlib.redirect_stdout(io.StringIO()):
            turns.run(seconds)
    guards = sum(p.name in LEVELS for p in participants)
    rows = []
    for row in rows_of(program, participants, training.steps_per_tick):
        values = row.to_dict()
        if row.watch in LEVELS:
            values["threads_percent"] = 100 * turns.threads_share / guards
        rows.append(values)
    return rows


def _quiet(framework: str, threads: int) -> None:
    warnings.simplefilter("ignore")
    logging.getLogger("failguard").setLevel(logging.ERROR)
    if framework == "keras":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    else:
        import torch

        torch.set_num_threads(threads)


def main() -> None:
    """Read the job, write the rows as the last line."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    job = json.loads(sys.argv[1])
    rows = measure(**job)
    print("\n" + json.dumps(rows), flush=True)
    os._exit(0)  # threads of other tools do not hold the process up


if __name__ == "__main__":
    main()
