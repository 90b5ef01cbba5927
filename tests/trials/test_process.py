"""The process of trials: bounded, quiet, and never the user's problem."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from failguard.core.capsule import CapsuleInfo, write_info
from failguard.core.finding import Finding, Severity
from failguard.core.run_info import RunInfo
from failguard.errors import InputError
from failguard.report.run_report import RunReport
from failguard.trials import process
from failguard.trials.process import run_trials, write_report
from failguard.trials.results import Outcome

pytestmark = pytest.mark.slow


@pytest.fixture
def capsule(tmp_path: Path) -> Path:
    folder = tmp_path / "capsule"
    folder.mkdir()
    root = Finding("loss.divergence", Severity.ERROR, 1, 0, "It rose.")
    write_report(folder, RunReport(RunInfo("r", ""), findings=[root], root=root))
    write_info(folder, CapsuleInfo("torch", search_path=[str(tmp_path)], notes=["Only some batches."]))
    return folder


def test_a_damaged_capsule_says_what_is_missing(capsule: Path) -> None:
    before = {path.name for path in capsule.parent.iterdir()}
    found = run_trials(capsule)
    assert found.outcome is Outcome.NOT_TRIED
    assert "steps.pt of the capsule cannot be read" in found.reason
    assert found.remarks == ["Only some batches."]
    assert found.seconds > 0
    assert {path.name for path in capsule.parent.iterdir()} == before


def test_memory_is_bounded(capsule: Path) -> None:
    found = run_trials(capsule, limit_bytes=1e6)
    assert found.outcome is Outcome.NOT_TRIED
    assert "GB of memory, more than the 0.0 GB allowed" in found.reason


def test_time_is_bounded(capsule: Path) -> None:
    found = run_trials(capsule, limit_s=0.2)
    assert found.reason == "Nothing was found out: the time was up."


def test_ctrl_c_ends_the_trials_and_nothing_else(capsule: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        def wait(self, timeout: float | None = None) -> int:
            started.append(self)
            if timeout is not None and len(started) == 1:
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr(process.subprocess, "Popen", Interrupted)
    found = run_trials(capsule)
    assert found.reason == "Nothing was found out: it was interrupted."
    assert started[0].returncode is not None


def test_nothing_is_told_to_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    monkeypatch.setenv("MLFLOW_RUN_ID", "abc")
    monkeypatch.setenv("RANK", "0")
    environment = process._environment(CapsuleInfo("keras", backend="jax", search_path=["/code"]), "cpu", "/tmp/x")
    assert environment["MLFLOW_TRACKING_URI"] == "sqlite:////tmp/x/mlflow.db"
    assert environment["FAILGUARD_DISABLE"] == "1"
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["KERAS_BACKEND"] == "jax"
    assert environment["PYTHONPATH"].split(os.pathsep)[1] == "/code"
    assert not {"MLFLOW_RUN_ID", "RANK"} & set(environment)
    assert "CUDA_VISIBLE_DEVICES" not in set(process._environment(CapsuleInfo("torch"), "cuda:0", "/")) - set(
        os.environ
    )


def test_what_is_no_capsule(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no capsule"):
        run_trials(tmp_path)
