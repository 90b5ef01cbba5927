"""What happens to the capsule of a failed run: where it goes, when it is left out, and what the report says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from failguard import verification
from failguard.core.capsule import CapsuleInfo, CapsuleRefused, write_info
from failguard.core.finding import Finding, Severity
from failguard.core.observation import ExceptionFacts
from failguard.core.run_info import RunInfo
from failguard.report.run_report import RunReport
from failguard.trials.results import Outcome, Verification
from failguard.verification import keep_and_verify


class Host:
    def __init__(self, refusal: str = "") -> None:
        self.folder: Path | None = None
        self.refusal = refusal

    def write_capsule(self, folder: Path, failed_step: int | None) -> CapsuleInfo | None:
        if self.refusal:
            raise CapsuleRefused(self.refusal)
        self.folder = folder
        folder.mkdir(parents=True)
        info = CapsuleInfo("torch", failed_step, [{"step": 0, "batches": 3}])
        write_info(folder, info)
        return info


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    tried: list[Path] = []

    def run(capsule: Path, **_: Any) -> Verification:
        assert (capsule / "report.json").is_file()
        tried.append(capsule)
        return Verification(Outcome.NOT_REPRODUCED, "It did not come back.")

    monkeypatch.setattr(verification, "run_trials", run)
    return tried


def report(**locations: str) -> RunReport:
    root = Finding("loss.divergence", Severity.ERROR, 1, 0, "It rose.")
    return RunReport(RunInfo("r", ""), findings=[root], root=root, locations=dict(locations))


def test_it_goes_into_the_record(tmp_path: Path, trials: list[Path]) -> None:
    found, host = report(local=str(tmp_path)), Host()
    assert keep_and_verify(found, host, 7, runs_trials=True) is not None
    assert host.folder == tmp_path / "capsule" == trials[0]
    assert (tmp_path / "capsule" / "verification.json").is_file()
    kept, said = found.notes
    assert "3 batches were kept" in kept
    assert "hold your data" in kept
    assert said == "Trials of remedies: It did not come back."


def test_only_kept(tmp_path: Path, trials: list[Path]) -> None:
    found = report(local=str(tmp_path))
    assert keep_and_verify(found, Host(), 7, runs_trials=False) is None
    assert (tmp_path / "capsule" / "report.json").is_file()
    assert len(found.notes) == 1
    assert trials == []


@pytest.mark.parametrize("local", [None, "gone"], ids=["no record", "another working folder"])
def test_without_a_record_it_is_gone_afterwards(local: str | None, trials: list[Path]) -> None:
    found, host = report(**({} if local is None else {"local": local})), Host()
    keep_and_verify(found, host, 7, runs_trials=True)
    assert host.folder is not None
    assert not host.folder.exists()
    assert found.notes == ["Trials of remedies: It did not come back."]
    assert len(trials) == 1
    keep_and_verify(found, host, 7, runs_trials=False)
    assert "no capsule was written" in found.notes[-1]


def test_an_interrupted_run_is_not_held_up(tmp_path: Path, trials: list[Path]) -> None:
    found, host = report(local=str(tmp_path)), Host()
    found.exception = ExceptionFacts("KeyboardInterrupt", "", "", interrupt=True)
    assert keep_and_verify(found, host, 7, runs_trials=True) is None
    assert host.folder is None
    assert trials == []


def test_a_refusal_is_said(tmp_path: Path, trials: list[Path]) -> None:
    found = report(local=str(tmp_path))
    assert keep_and_verify(found, Host("no batch was kept"), 7, runs_trials=True) is None
    assert found.notes == ["Remedies cannot be tried: no batch was kept."]
    assert trials == []
