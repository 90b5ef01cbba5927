"""Two processes that train one model."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("lightning")
pytestmark = [pytest.mark.framework, pytest.mark.slow]

SCRIPT = """
import json, logging, math, os, sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
import torch
import lightning as L
from failguard import Finding, Severity
from failguard.lightning import FailGuard

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
torch.set_num_threads(1)
case, folder = sys.argv[1], Path(sys.argv[2])
rank = int(os.environ.get("LOCAL_RANK", 0))

class OnlyHere:
    code, TRIPS, QUIET = "loss.spike", (), ()

    def check(self, observation, history):
        if rank == 1 and observation.step >= 5:
            return Finding(self.code, Severity.ERROR, 5, 0, "only here")

class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))

    def training_step(self, batch, batch_idx):
        loss = self.net(batch[0]).pow(2).mean()
        return loss * math.nan if case == "nan" and rank == 1 and batch_idx == 7 else loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)

torch.manual_seed(1)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(400, 4)), batch_size=2)
guard = FailGuard(
    resources=False,
    record_dir=folder / "records",
    sinks=[] if case == "one" else "auto",
    **({"detectors": [OnlyHere()], "policy": {"loss.spike": "stop"}} if case == "one" else {}),
)
net = Net()
trainer = L.Trainer(max_epochs=3, accelerator="cpu", devices=2, strategy="ddp", callbacks=[guard], logger=False,
                    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer.fit(net, loader)
report = guard.report
(folder / f"{rank}.json").write_text(json.dumps({
    "steps": report.progress.steps,
    "status": str(report.status),
    "codes": [f.code for f in report.findings],
    "notes": report.notes,
    "errors": [e.message for e in report.part_errors],
    "weights": [p.flatten().tolist() for p in net.parameters()],
    "world": report.facts.world_size,
}))
"""


def run(tmp_path, case):
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LOCAL_", "WORLD_", "NODE_", "MASTER_"))}
    env["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/mlflow.db"
    done = subprocess.run(
        [sys.executable, str(script), case, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        env=env,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_a_stop_that_one_rank_wants_ends_both(tmp_path):
    first, second = run(tmp_path, "one")
    assert first["world"] == second["world"] == 2
    assert first["errors"] == second["errors"] == []
    assert first["steps"] == second["steps"]
    assert first["steps"] < 300
    assert first["steps"] % 16 == 0
    assert (first["status"], second["status"]) == ("stopped", "stopped")
    assert second["codes"] == ["loss.spike"]
    assert any("Another rank" in n for n in first["notes"])
    assert first["weights"] == second["weights"]


def test_a_bad_value_on_one_rank_is_kept_out_on_both_and_one_writes(tmp_path):
    first, second = run(tmp_path, "nan")
    assert first["errors"] == second["errors"] == []
    assert "gradient.non_finite" in first["codes"]
    assert "loss.non_finite" in second["codes"]
    assert first["steps"] == second["steps"] < 300
    assert first["weights"] == second["weights"]
    assert all(w == w for layer in first["weights"] for w in layer)
    assert len([p for p in (tmp_path / "records").iterdir() if p.is_dir()]) == 1
