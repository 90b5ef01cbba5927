"""The guard and the machine: memory at steps, time that is no step, hangs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from failguard.core.decision import Decision
from failguard.core.facts import Facts
from failguard.core.finding import Finding
from failguard.detectors.resource_disk_low import ResourceDiskLow
from failguard.detectors.run_hang import RunHang
from failguard.guard import Guard
from failguard.resources import ResourceLimits
from failguard.settings import Settings


class Host:
    """A framework that has something to add to findings about resources."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []

    def apply(self, decision: Decision) -> None:
        self.decisions.append(decision)

    def weights_bytes(self) -> int:
        return 0

    def save_weights(self) -> None: ...

    def restore_weights(self) -> None: ...

    def non_finite_weights(self) -> list[str]:
        return []

    def learning_rate(self) -> float | None:
        return None

    def locate(self, finding: Finding) -> None:
        return None

    def explain(self, finding: Finding) -> Mapping[str, float]:
        return {"told_by_host": 1.0}


def make(**keywords: Any) -> tuple[Guard, Host]:
    host = Host()
    guard = Guard(Settings(**{"sinks": [], **keywords}), host, "torch")
    guard.start(Facts())
    return guard, host


def step(guard: Guard, n: int = 1) -> None:
    for _ in range(n):
        guard.record_loss(1.0)
        guard.allow_update()
        guard.end_batch()


def test_memory_is_read_at_64_steps_of_the_first_thousand_at_least() -> None:
    guard, _ = make(detectors=[])
    step(guard, 1000)
    guard.finish()
    assert len(guard.history.steps["process_memory_bytes"]) >= 64


def test_switched_off_nothing_is_read_and_no_thread_runs() -> None:
    guard, _ = make(resources=False)
    step(guard, 100)
    assert guard.resources._hang_watch is None
    guard.finish()
    assert "process_memory_bytes" not in guard.history.steps
    assert guard.report.resources == {}


def test_a_validation_is_no_part_of_a_step() -> None:
    guard, _ = make(detectors=[])
    step(guard, 20)
    time.sleep(0.3)
    guard.spent("validation")
    step(guard)
    time.sleep(0.3)
    guard.start_epoch(1)
    step(guard)
    guard.finish()
    assert max(guard.history.steps["step_s"].values) < 0.2
    assert 0.25 < guard.report.resources["time"]["phases_s"]["validation"] < 1.0


def pause(guard: Guard, **values: float) -> bool:
    return guard._pause({"idle_s": 700.0, "still_s": 700.0, "longest_pause_s": 1.0, **values})


def test_a_hang_is_recorded_at_once_and_acted_on_when_it_is_over() -> None:
    guard, host = make(detectors=[RunHang()], policy={"run.hang": "stop"})
    step(guard, 20)
    assert not pause(guard, idle_s=60.0), "a slow step"
    assert pause(guard)
    assert [f.code for f in guard.report.findings] == ["run.hang"]
    assert guard.report.resources["hangs"][0]["stacks"]
    assert not guard.should_stop, "the training is left alone while it hangs"
    assert host.decisions == []
    step(guard, 40)
    assert guard.should_stop
    assert len(host.decisions) == 1
    guard.finish()


def test_the_standard_policy_leaves_a_hung_run_alone() -> None:
    guard, host = make(detectors=[RunHang()])
    step(guard, 20)
    pause(guard)
    step(guard, 40)
    guard.finish()
    assert host.decisions == []
    assert guard.report.failing


def test_without_the_detector_nobody_watches_for_hangs() -> None:
    guard, _ = make(detectors="minimal")
    assert guard.resources._hang_watch is None
    guard.finish()


def test_the_host_adds_what_it_knows_to_a_finding_about_resources() -> None:
    guard, _ = make(detectors=[ResourceDiskLow(least_bytes=1e30)], resources=ResourceLimits(interval_s=0.05))
    step(guard, 20)
    time.sleep(0.3)
    guard.end_epoch({"val_loss": 1.0}, validated=True)
    guard.finish()
    (finding,) = guard.report.findings
    assert finding.code == "resource.disk_low"
    assert finding.evidence["told_by_host"] == 1.0
    assert guard.report.diagnosis.causes[0].code == "disk_full"


@pytest.mark.parametrize("resources", [True, ResourceLimits(price_per_gpu_hour=3.0, show_table=True)])
def test_the_report_has_the_bill(resources: Any) -> None:
    guard, _ = make(detectors=[], resources=resources)
    step(guard, 40)
    guard.finish()
    found = guard.report.resources
    assert found["bill"]["hours"] > 0
    assert found["advice"] == []
    assert found.get("show_table") is (True if resources is not True else None)
    assert guard.report.from_dict(guard.report.to_dict()).resources == guard.report.to_dict()["resources"]
