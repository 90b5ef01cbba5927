"""Two processes, one of which fails: the record of the first rank names the other's error, not the lost connection."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytestmark = [pytest.mark.framework, pytest.mark.slow]

SCRIPT = """
import torch
import torch.distributed as dist
from failguard.sinks.files import LocalRecord
from failguard.torch import FailGuard

torch.set_num_threads(1)
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.01)

def batch(step):
    if dist.get_rank() == 1 and step == 5:
        raise ValueError("row 17 of this shard is broken")
    return torch.randn(4, 4)

with FailGuard(model, optimizer, resources=False, sinks=[LocalRecord("runs")], record_dir="runs") as guard:
    for step in range(50):
        optimizer.zero_grad()
        loss = model(batch(step)).pow(2).mean()
        loss.backward()
        if guard.step(loss=loss):
            optimizer.step()
"""


def test_the_first_failing_rank_is_named(tmp_path: Path) -> None:
    script = tmp_path / "loop.py"
    script.write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(script)],
            cwd=tmp_path,
            env={**os.environ, **meeting, "RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    errors = [rank.communicate(timeout=240)[1] for rank in ranks]
    assert all(rank.returncode != 0 for rank in ranks)
    (record,) = tmp_path.glob("runs/*/failguard/report.json")
    report = json.loads(record.read_text())
    assert report["exception"]["type_name"] == "ValueError", errors[0][-2000:]
    assert report["exception"]["frame"] == ('loop.py:14 in batch: raise ValueError("row 17 of this shard is broken")')
    assert report["diagnosis"]["causes"][0]["code"] == "user_code_error"
    assert any(note.startswith("Rank 1 failed first; this rank then raised") for note in report["notes"])
