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
        Path(folder, f"samples{rank}").write_text(str(len(guard._guard.history.internals)))
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
    # One rank is enough to look inside the model.
    assert int((tmp_path / "samples0").read_text()) > 0
    assert (tmp_path / "samples1").read_text() == "0"


LAGGING = """
import failguard.torch.callback as callback
from failguard.torch.device import DeviceStepWatch
from failguard.torch.readback import Readback

class Passed:
    def record(self): ...
    def query(self): return True
    def synchronize(self): ...

class Lagging(DeviceStepWatch):
    # Numbers come from the device late, and on each rank at another step.

    def __init__(self, *args, **keywords):
        super().__init__(*args, readback=Readback(event=Passed, pinned=False), **keywords)

    def _take_in(self, *, wait=False):
        if wait or self._sent % (3 + 2 * dist.get_rank()) == 0:
            super()._take_in(wait=wait)

callback.StepWatch = Lagging
"""


def test_ranks_whose_devices_lag_differently_stop_together(tmp_path):
    script = tmp_path / "loop.py"
    script.write_text(SCRIPT.replace("class OnlyHere", LAGGING + "\nclass OnlyHere", 1))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    steps, _, _, errors, status = first
    assert steps < 200
    assert steps % 16 == 0
    assert errors == []
    assert status == "stopped"


SLOW_RANK = """
import json, sys, time
from pathlib import Path
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from failguard.detectors.run_straggler import RunStraggler
from failguard.torch import FailGuard

def batches(slow):
    for step in range(600):
        if slow:
            time.sleep(0.015)
        yield torch.randn(4, 4)

def train(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    with FailGuard(model, optimizer, detectors=[RunStraggler(least_rounds=2)], sinks=[]) as guard:
        for x in batches(slow=rank == 1):
            optimizer.zero_grad()
            loss = model(x).pow(2).mean()
            loss.backward()
            if guard.step(loss=loss):
                optimizer.step()
    report = guard.report
    Path(folder, f"{rank}.json").write_text(json.dumps([
        [(f.code, f.evidence["rank"], f.evidence["own_s"]) for f in report.findings],
        [e.message for e in report.part_errors],
    ]))
    dist.destroy_process_group()

if __name__ == "__main__":
    mp.spawn(train, (sys.argv[1],), nprocs=2)
"""


def test_the_slow_rank_is_named_on_every_rank(tmp_path):
    script = tmp_path / "slow.py"
    script.write_text(SLOW_RANK)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=240, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in (0, 1):
        findings, errors = json.loads((tmp_path / f"{rank}.json").read_text())
        assert errors == []
        ((code, slow, own_s),) = findings
        assert (code, slow) == ("run.straggler", 1.0)
        assert own_s > 0.01


SLOW_TO_LET_GO = """
import os, sys, tempfile
import torch
import torch.distributed as dist
from failguard.torch.ranks import any_rank, of_each_rank

def train(rank, folder, trial):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    cores = sorted(os.sched_getaffinity(0))
    for thread in map(int, os.listdir("/proc/self/task")):
        os.sched_setaffinity(thread, {cores[rank % len(cores)]})
        if "gloo_runloop" in open(f"/proc/self/task/{thread}/comm").read():
            os.sched_setscheduler(thread, os.SCHED_IDLE, os.sched_param(0))
    if trial % 4:
        assert any_rank(rank == 1, torch.device("cpu"))
    else:
        assert of_each_rank(rank + 1.0, torch.device("cpu")) == [1.0, 2.0]

torch.set_num_threads(1)
for trial in range(12):
    folder, ranks = tempfile.mkdtemp(dir=sys.argv[1]), []
    for rank in range(2):
        ranks.append(os.fork())
        if ranks[-1] == 0:
            train(rank, folder, trial)
            sys.exit()
    for pid in ranks:
        assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.skipif(sys.platform != "linux", reason="gives threads of a backend no time, as Linux can")
def test_a_process_ends_well_right_after_ranks_have_agreed(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SLOW_TO_LET_GO, str(tmp_path)], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
