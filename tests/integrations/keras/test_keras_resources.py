"""Where the time of a Keras fit goes, and what it leaves on the model. Other backends: tests/integrations/keras."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

pytestmark = [pytest.mark.framework, pytest.mark.slow]

PROGRAM = """
import time
import keras, numpy as np
from failguard.keras import FailGuard

class Slow(keras.utils.PyDataset):
    def __len__(self): return 120  # a window opens within 72 steps, and an epoch's end closes it
    def __getitem__(self, i):
        time.sleep(0.02)
        x = np.random.default_rng(i).normal(size=(8, 8)).astype("float32")
        return x, x.sum(1, keepdims=True)

keras.utils.set_random_seed(1)
layers = keras.layers
model = keras.Sequential([keras.Input((8,)), layers.Dense(32, "relu"), layers.Dropout(0.2), layers.Dense(1)])
model.compile("sgd", "mse", **COMPILE)
before = set(model.__dict__)
if GUARDED:
    guard = FailGuard(sinks=[])
    model.fit(Slow(), epochs=2, validation_data=(np.ones((64, 8)), np.ones((64, 1))), callbacks=[guard], verbose=0)
    report = guard.report
    assert not report.part_errors, report.part_errors
    spent = report.resources["time"]
    print("share", spent.get("data_wait_share"), "validation", spent["phases_s"].get("validation"))
    assert not {"train_step", "compute_loss"} & set(model.__dict__), set(model.__dict__) - before
else:
    model.fit(Slow(), epochs=2, validation_data=(np.ones((64, 8)), np.ones((64, 1))), verbose=0)
print("weights", *(float(np.abs(w).sum()).hex() for w in model.get_weights()))
"""


def run(backend: str, *, guarded: bool = True, compiling: str = "{}") -> dict[str, list[str]]:
    program = f"GUARDED = {guarded}\nCOMPILE = {compiling}\n" + PROGRAM
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "KERAS_BACKEND": backend},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {words[0]: words[1:] for words in (line.split() for line in done.stdout.splitlines()) if words}


@pytest.mark.parametrize(
    ("backend", "compiling"),
    [("tensorflow", "{}"), ("tensorflow", "{'jit_compile': True}"), ("torch", "{}"), ("jax", "{}")],
)
def test_waiting_for_data_is_seen_and_nothing_is_perturbed(backend: str, compiling: str) -> None:
    found: Any = run(backend, compiling=compiling)
    share, _, validation = found["share"]
    # Batches are made in the background: on a busy machine the steps are slow too, and hardly wait.
    assert float(share) > 0.05
    assert float(validation) > 0
    assert found["weights"] == run(backend, guarded=False, compiling=compiling)["weights"]


def test_with_several_steps_a_call_waiting_is_not_known_and_the_rest_is() -> None:
    found: Any = run("tensorflow", compiling="{'steps_per_execution': 4}")
    assert found["share"][0] == "None"
    assert float(found["share"][2]) > 0
