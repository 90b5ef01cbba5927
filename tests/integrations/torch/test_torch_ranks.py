"""Two processes with a loop each."""

import json
import subprocess
import sys

import pytest

pytest.importorskip("torch")
pytestmark = [pytest.mark.framework, pytest.mark.slow]

SCRIPT = """
import json, sys
from pathlib import Path
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from failguard import Finding, Severity
from failguard.torch import FailGuard

class OnlyHere:
    code, TRIPS, QUIET = "loss.spike", (), ()

    def check(self, observation, history):
        if dist.get_rank() == 1 and observation.step >= 5:
            return Finding(self.code, Severity.ERROR, 5, 0, "only here")

def train(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    keywords = {"detectors": [OnlyHere()], "policy": {"loss.spike": "stop"}, "resources": False, "sinks": []}
    guard = FailGuard(model, optimizer, **keywords)
    with guard:
        for step in range(200):
            optimizer.zero_grad()
            loss = model(torch.randn(4, 4)).pow(2).mean()
            loss.backward()
            if guard.step(loss=loss):
                optimizer.step()
            if guard.should_stop:
                break
    report = guard.report
    Path(folder, f"{rank}.json").write_text(json.dumps([
        report.progress.steps, report.facts.world_size, model.module.weight.flatten().tolist(),
        [e.message for e in report.part_errors], str(report.status),
    ]))
    dist.destroy_process_group()

if __name__ == "__main__":
    mp.spawn(train, (sys.argv[1],), nprocs=2)
"""


def test_ranks_stop_together(tmp_path):
    script = tmp_path / "loop.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=240, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    steps, world, _, errors, status = first
    assert steps < 200
    assert steps % 16 == 0
    assert world == 2
    assert errors == []
    assert status == "stopped"
