"""The other backends, each in a process of its own: loss and norm are seen, a bad update is dropped."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.framework, pytest.mark.slow]

PROGRAM = """
import json, sys
import keras, numpy as np
from failguard.core import containment
from failguard.keras import FailGuard

containment.reraise = True
rng = np.random.default_rng(0)
x = rng.normal(size=(160, 6)).astype("float32")
y = x[:, :3].argmax(axis=1).astype("int32")
bad = x.copy()
bad[7 * 16, 0] = np.nan

def run(guard, x, **compiling):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((6,)), keras.layers.Dense(8, activation="tanh"), keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.2), keras.layers.Dense(3),
    ])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"], **compiling)
    history = model.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0, validation_data=(x[:32], y[:32]),
                        callbacks=[guard] if guard else [])
    values = [np.array(keras.ops.convert_to_numpy(v)) for v in (*model.variables, *model.optimizer.variables)]
    return model, values, history.history

def guard():
    return FailGuard(sinks=[], resources=False)

def steps(report, name):
    return [r["mean"] for r in report.history if r["name"] == name and r["per"] == "step"]

out = {}
kinds = {"plain": {}}
if keras.backend.backend() == "jax":
    kinds["several"] = {"steps_per_execution": 4}
for kind, compiling in kinds.items():
    healthy, stopped = guard(), guard()
    _, without, history = run(None, x, **compiling)
    _, watched, same_history = run(healthy, x, **compiling)
    model, _, _ = run(stopped, bad, **compiling)
    out[kind] = {
        "same": all(np.array_equal(a, b) for a, b in zip(without, watched)) and history == same_history,
        "losses": steps(healthy.report, "loss"), "norms": steps(healthy.report, "gradient_norm"),
        "mean": history["loss"], "status": str(healthy.report.status),
        "root": [stopped.report.root.code, stopped.report.root.step, stopped.report.root.where.tensor],
        "stopped": str(stopped.report.status), "stopped_steps": stopped.report.progress.steps,
        "finite": all(np.isfinite(keras.ops.convert_to_numpy(v)).all() for v in model.weights),
        "left": sorted({"train_step", "compute_loss"} & set(model.__dict__)),
        "errors": [e.message for g in (healthy, stopped) for e in g.report.part_errors],
    }
print(json.dumps(out))
"""


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_loss_and_norm_on_another_backend(backend: str) -> None:
    pytest.importorskip(backend)
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for kind, seen in json.loads(done.stdout.splitlines()[-1]).items():
        assert seen["errors"] == []
        assert seen["same"], kind
        assert len(seen["losses"]) == len(seen["norms"]) == 20
        assert all(norm > 0 for norm in seen["norms"])
        assert sum(seen["losses"][:10]) / 10 == pytest.approx(seen["mean"][0], rel=1e-5)
        assert seen["status"] == "completed"
        # On JAX the batch may be looked at before its loss has arrived.
        assert seen["root"][0] in ("loss.non_finite", "data.non_finite")
        assert seen["root"][1:] == [7, "input"]
        assert seen["stopped"] == "stopped"
        assert seen["stopped_steps"] <= (9 if kind == "plain" else 12)
        assert seen["finite"]
        assert seen["left"] == []
