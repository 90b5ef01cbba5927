"""Where the time of a Keras fit goes, and what it leaves on the model. Other backends: tests/integrations/keras."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
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


def test_checkpoints_and_callbacks_have_their_part(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    import numpy as np

    from failguard.keras import FailGuard

    class Slow(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            time.sleep(0.004)

    x = np.random.default_rng(0).normal(size=(960, 8)).astype("float32")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    file = tmp_path / "weights" / "{epoch}.weights.h5"
    saves = keras.callbacks.ModelCheckpoint(str(file), save_weights_only=True)
    backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    guard = FailGuard(sinks=[])
    model.fit(x, x.sum(1), batch_size=8, epochs=2, verbose=0, callbacks=[saves, guard, Slow(), backup])
    report = guard.report
    assert report.part_errors == []
    phases_s = report.resources["time"]["phases_s"]
    assert phases_s["checkpoint"] > 0
    assert phases_s["callbacks"] > 0.2
    assert report.resources["checkpoint_bytes"] in {f.stat().st_size for f in tmp_path.rglob("*.h5")}
    assert "_save_model" not in saves.__dict__
    assert "_save_model" not in backup.__dict__


def test_a_checkpoint_that_fails_is_an_error_of_its_own(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    import numpy as np

    from failguard.keras import FailGuard

    class Full(keras.callbacks.ModelCheckpoint):  # type: ignore[misc]
        def _save_model(self, epoch: int, batch: int | None, logs: Any) -> None:
            raise OSError(28, "No space left on device")

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    guard = FailGuard(sinks=[])
    saves = Full(str(tmp_path / "model.keras"))
    with pytest.raises(OSError, match="No space left"), guard:
        model.fit(np.ones((64, 2)), np.ones(64), verbose=0, callbacks=[saves, guard])
    assert guard.report.part_errors == []
    assert guard.report.diagnosis.causes[0].code == "disk_full"
    assert "_save_model" not in saves.__dict__
