"""Remedies tried after real failures, in real scripts, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.framework, pytest.mark.slow]

LIGHTNING = """
import torch, lightning as L
from torch import nn
from failguard.lightning import FailGuard
torch.manual_seed(0)
x = torch.randn(1600, 8); y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
BREAK
class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))
    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_ce", loss)
        return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=RATE)
data = torch.utils.data.DataLoader(list(zip(x, y)), batch_size=16)
guard = FailGuard(verify_remedies=True, sinks=SINKS)
L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
          enable_model_summary=False, callbacks=[guard]).fit(Net(), data)
"""

KERAS = """
import os
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
import keras, numpy as np
from failguard.keras import FailGuard
rng = np.random.default_rng(0)
x = rng.normal(size=(640, 8)).astype("float32"); y = (x[:, 0] > 0).astype("int64") + (x[:, 1] > 0)
BREAK
class Own(keras.layers.Layer):
    def __init__(self, units, **more):
        super().__init__(**more)
        self.units, self.dense = units, keras.layers.Dense(units, activation="relu")
    def build(self, shape):
        self.dense.build(shape)
    def call(self, x):
        return self.dense(x)
    def get_config(self):
        return {**super().get_config(), "units": self.units}
def own_loss(y, p):
    return keras.losses.sparse_categorical_crossentropy(y, p, from_logits=True)
model = keras.Sequential([keras.Input((8,)), Own(32), keras.layers.Dense(3)])
model.compile(keras.optimizers.SGD(RATE), loss=own_loss, jit_compile=False)
guard = FailGuard(verify_remedies=True, sinks=SINKS)
model.fit(x, y, epochs=2, batch_size=16, shuffle=False, verbose=0, callbacks=[guard])
"""

LOOP = """
import torch
from torch import nn
from failguard.torch import FailGuard
from models import Imported
torch.manual_seed(0)
x = torch.randn(1600, 8); y = x[:, :1] * 2 + x[:, 1:2]
BREAK
model = Imported()
optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
guard = FailGuard(model, optimizer, verify_remedies=True, sinks=SINKS)
with guard:
    for i in range(0, 1600, 16):
        batch = x[i : i + 16], y[i : i + 16]
        CLEAR
        loss = nn.functional.mse_loss(model(batch[0]), batch[1])
        loss.backward()
        if guard.step(loss=loss, batch=batch):
            optimizer.step()
        if guard.should_stop:
            break
    guard.end_epoch()
"""

MODELS = """
from torch import nn
class Imported(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    def forward(self, x):
        return self.net(x)
"""

LAST = """
import json
r = guard.report
print(json.dumps({"status": r.status, "root": r.root.code, "step": r.root.step, "notes": r.notes,
    "errors": [e.message for e in r.part_errors],
    "causes": [[c.code, c.verified, list(c.evidence)] for c in r.diagnosis.causes]}))
"""


def run(script: str, **parts: str) -> dict[str, Any]:
    """Run a training script and give what its guard reported."""
    parts = {"BREAK": "", "CLEAR": "optimizer.zero_grad()", "SINKS": '[LocalRecord("failguard_runs")]', **parts}
    text = "from failguard.sinks.files import LocalRecord\n" + textwrap.dedent(script) + LAST
    for name, value in parts.items():
        text = text.replace(name, value)
    Path("train.py").write_text(text)
    Path("models.py").write_text(MODELS)
    done = subprocess.run([sys.executable, "train.py"], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "failguard", *words], capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.parametrize("script", [LIGHTNING, KERAS, LOOP], ids=["lightning", "keras", "loop"])
def test_a_rate_too_high_is_verified_in_the_run(script: str) -> None:
    found = run(script, RATE="1e4")
    assert found["errors"] == []
    code, verified, evidence = found["causes"][0]
    assert (code, verified) == ("learning_rate_too_high", True)
    assert evidence[0].startswith("verified: with the learning rate 0.01 instead of 10,000 the loss fell from")
    assert "as it was" in evidence[0]
    record = next(Path("failguard_runs").iterdir(), None)
    assert any(f"The starting weights and {n} batches" in found["notes"][0] for n in range(2, 33))
    assert record is not None
    assert {p.name for p in Path.cwd().iterdir()} - {"__pycache__"} == {"train.py", "models.py", "failguard_runs"}


def test_a_failure_that_begins_late_is_taken_up_from_a_later_step() -> None:
    found = run(LIGHTNING, RATE="0.1", BREAK='x[16 * 75 + 3, 2] = float("nan")')
    assert (found["root"], found["step"]) == ("data.non_finite", 75)
    code, verified, evidence = found["causes"][0]
    assert (code, verified) == ("corrupted_batch", True)
    assert evidence[0].endswith("(from step 32 of the run on)") or evidence[0].endswith("(from step 64 of the run on)")


def test_gradients_that_were_never_cleared_and_no_record_to_keep() -> None:
    found = run(LOOP, RATE="0.05", CLEAR="", SINKS="[]")
    assert found["root"] == "gradient.accumulating"
    assert found["causes"][0][:2] == ["missing_zero_grad", True]
    assert found["notes"] == []
    assert not Path("failguard_runs").exists()


def test_the_command_on_a_record_that_was_only_captured() -> None:
    found = run(LOOP.replace("verify_remedies=True", 'verify_remedies="capture"'), RATE="1e4")
    assert found["causes"][0][1] is None
    (record,) = (p for p in Path("failguard_runs").iterdir() if p.is_dir())
    done = command("verify", record.name[:12])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("A remedy removed the symptom")
    assert "helped" in done.stdout
    analysis = json.loads((record / "failure_analysis.json").read_text())
    assert analysis["causes"][0]["verified"] is True
    assert "verified: with the learning rate" in (record / "failguard" / "report.html").read_text()
    as_json = command("verify", str(record), "--json")
    assert json.loads(as_json.stdout)["outcome"] == "verified"
    assert json.loads((record / "capsule" / "verification.json").read_text())["outcome"] == "verified"
    again = command("replay", str(record / "capsule"), "--json")
    assert again.returncode == 0, again.stderr
    replay = json.loads(again.stdout)["original"]
    pairs = list(zip(replay["losses"], replay["recorded_losses"], strict=True))
    assert len(pairs) >= 2
    assert all(a == pytest.approx(b, rel=1e-4) for a, b in pairs[:2])
    table = command("replay", str(record))
    assert "recorded loss" in table.stdout
    assert "was not finite" in table.stdout


def test_the_limit_holds_and_the_run_is_told() -> None:
    text = MODELS.replace(
        "return self.net(x)",
        "import os, time\n        time.sleep(float(os.environ['SLOW']))\n        return self.net(x)",
    )
    Path("models.py").write_text(text)
    script = LOOP.replace("from models import Imported", text)
    os.environ["SLOW"] = "0"
    try:
        run(script.replace("verify_remedies=True", 'verify_remedies="capture"'), RATE="1e4")
        os.environ["SLOW"] = "0.7"
        done = command("verify", next(p.name for p in Path("failguard_runs").iterdir() if p.is_dir()), "--limit-s", "9")
    finally:
        del os.environ["SLOW"]
    assert done.returncode == 0, done.stderr
    assert "time was up" in done.stdout


def test_a_record_without_a_capsule() -> None:
    import torch

    from failguard.sinks.files import LocalRecord
    from failguard.torch import FailGuard

    model = torch.nn.Linear(2, 1)
    with FailGuard(model, torch.optim.SGD(model.parameters()), sinks=[LocalRecord("failguard_runs")]) as guard:
        guard.step(loss=model(torch.full((1, 2), torch.nan)).sum())
    assert guard.report.failing
    done = command("verify", guard.report.run.record_id)
    assert done.returncode == 2
    assert "verify_remedies=True" in done.stderr
    assert len(done.stderr.splitlines()) == 1
