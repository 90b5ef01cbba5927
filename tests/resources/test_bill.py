from __future__ import annotations

from typing import Any

import pytest

from failguard.resources.bill import bill


def gpu(**more: Any) -> dict[str, Any]:
    return {"index": 0, "name": "NVIDIA H100 80GB HBM3", "utilization_percent": {"mean": 40.0}, **more}


def test_without_gpus_there_are_only_hours() -> None:
    assert bill({}, 7200.0, price_per_gpu_hour=3.0) == {"hours": 2.0}


def test_what_gpus_cost_and_what_was_wasted_and_saved() -> None:
    summary = {
        "gpus": [
            gpu(energy_kwh=1.0, energy_source="counter"),
            gpu(energy_kwh=2.0, energy_source="counter", utilization_percent={"mean": 60.0}),
        ],
        "throughput": {"step_s": 0.5},
    }
    found = bill(summary, 7200.0, wasted_share=0.25, saved_s=3600.0, price_per_gpu_hour=2.5, flops_per_step=98.9e12)
    assert found["gpus"] == 2
    assert found["gpu_hours"] == 4.0
    assert found["energy_kwh"] == 3.0
    assert found["energy_source"] == "counter"
    assert found["gpu_utilization_percent"] == 50.0
    assert found["cost"] == 10.0
    assert (found["wasted_cost"], found["saved_cost"]) == (2.5, 5.0)
    assert (found["wasted_hours"], found["saved_gpu_hours"]) == (0.5, 2.0)
    assert found["mfu"] == pytest.approx(98.9 / 0.5 / 989)


def test_cards_that_the_run_was_not_on_are_not_paid_for() -> None:
    found = bill({"gpus": [gpu(used_by_run=True), gpu(used_by_run=False, energy_kwh=9.0)]}, 3600.0)
    assert found["gpu_hours"] == 1.0
    assert "energy_kwh" not in found, "the energy of the card that counts is not known"


def test_part_of_the_energy_is_not_the_energy() -> None:
    assert "energy_kwh" not in bill({"gpus": [gpu(energy_kwh=1.0, energy_source="power"), gpu()]}, 3600.0)
    mixed = [gpu(energy_kwh=1.0, energy_source="power"), gpu(energy_kwh=1.0, energy_source="counter")]
    assert bill({"gpus": mixed}, 3600.0)["energy_source"] == "mixed"


def test_no_peak_no_mfu() -> None:
    summary = {"gpus": [gpu(name="Some other card")], "throughput": {"step_s": 0.5}}
    assert "mfu" not in bill(summary, 3600.0, flops_per_step=1e12)
    assert "mfu" not in bill({"gpus": [gpu()]}, 3600.0, flops_per_step=1e12)


def test_emissions_follow_from_the_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("failguard.resources.bill.kg_per_kwh", {"FRA": 0.05}.get)
    summary = {"gpus": [gpu(energy_kwh=4.0, energy_source="counter")]}
    assert bill(summary, 3600.0, emissions_country="FRA")["emissions_kg"] == pytest.approx(0.2)
    assert "emissions_kg" not in bill(summary, 3600.0, emissions_country="XXX")
    assert "emissions_kg" not in bill(summary, 3600.0)
