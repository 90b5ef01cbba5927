"""On a machine with an NVIDIA GPU: `make test-gpu`. Elsewhere these are skipped."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.framework,
    pytest.mark.skipif(os.environ.get("FAILGUARD_TEST_GPU") != "1", reason="make test-gpu runs these"),
]

from failguard.resources import ResourceLimits  # noqa: E402
from failguard.resources.nvml import GpuReadings  # noqa: E402
from failguard.torch import FailGuard  # noqa: E402
from failguard.torch.allocator import allocator_probe  # noqa: E402


def test_nvml_reads_the_card() -> None:
    readings = GpuReadings()
    assert readings.problem is None
    assert readings.gpus
    assert readings.gpus[0].name
    values = readings.read()[0]
    readings.close()
    assert {"utilization_percent", "memory_used_bytes", "memory_total_bytes", "power_w", "temperature_c"} <= set(values)
    assert 0 < values["memory_used_bytes"] <= values["memory_total_bytes"]
    assert values.get("lost", 0.0) == 0.0


def test_the_allocator_is_read_without_waiting_for_the_device() -> None:
    device = torch.device("cuda:0")
    probe = allocator_probe(device)
    assert probe is not None
    read, held = probe
    before = held()
    tensor = torch.empty(64 << 20, dtype=torch.uint8, device=device)
    assert held() - before == pytest.approx(64 << 20, rel=0.05)
    torch.cuda.set_sync_debug_mode("error")
    try:
        values = read()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert values["gpu_memory_reserved_bytes"] >= values["gpu_memory_allocated_bytes"] >= 64 << 20
    del tensor


def loop(keep: bool, steps: int = 600) -> FailGuard:
    device = torch.device("cuda:0")
    model = torch.nn.Sequential(torch.nn.Linear(256, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 1)).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    x, y = torch.randn(256, 256, device=device), torch.randn(256, 1, device=device)
    kept: list[Any] = []
    with FailGuard(model, optimizer, sinks=[], resources=ResourceLimits(price_per_gpu_hour=2.0)) as guard:
        for step in range(steps):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x), y)
            loss.backward(retain_graph=keep)
            if guard.step(loss=loss, batch=(x, y)):
                optimizer.step()
            if keep:
                kept.append(loss)
            if step % 10 == 0:
                time.sleep(0.05)
    return guard


def test_a_leak_on_the_device_is_found_and_a_healthy_run_is_not() -> None:
    assert "resource.gpu_memory_growth" in [f.code for f in loop(keep=True).report.findings]
    report = loop(keep=False).report
    assert "resource.gpu_memory_growth" not in [f.code for f in report.findings]
    bill = report.resources["bill"]
    assert bill["gpus"] >= 1
    assert bill["energy_kwh"] > 0
    assert bill["cost"] == pytest.approx(2.0 * bill["gpu_hours"])
