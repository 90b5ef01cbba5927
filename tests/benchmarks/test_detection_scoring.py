"""How runs of the zoo are judged, on made-up runs."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.detection.program import Truth, half_of
from benchmarks.detection.scoring import Check, check_runs, figures, per_code, score
from benchmarks.detection.skill import accuracy_skill, entropy_skill, fraction_skill, r2_skill

TRUTH = Truth(("loss.divergence", "update.too_large"), ("learning_rate_too_high",), also=("loss.spike",))
FAULTY, HEALTHY = Check("faulty", 0.0), Check("healthy", 0.9)


def result(*findings: tuple[str, str, int], variant: str = "faulty", **more: Any) -> dict[str, Any]:
    return {
        "program": "torch/example",
        "variant": variant,
        "seed": 0,
        "findings": [{"code": c, "severity": s, "step": at} for c, s, at in findings],
        "root": findings[0][0] if findings else None,
        "causes": [],
        "status": "completed",
        "steps": 100,
        "planned_steps": 100,
        **more,
    }


def test_a_right_code_is_found_and_a_wrong_one_is_counted() -> None:
    s = score(
        result(("loss.spike", "warning", 7), ("data.scale", "warning", 9), ("loss.plateau", "info", 1)), TRUTH, FAULTY
    )
    assert s.found
    assert not s.root_right  # a symptom, but not the root
    assert s.latency == 7
    assert s.wrong == ("data.scale",)
    assert s.raised == ("loss.spike", "data.scale")


def test_only_a_wrong_code_is_not_found() -> None:
    s = score(result(("data.scale", "error", 9)), TRUTH, FAULTY)
    assert (s.found, s.found_any, s.root_right, s.latency) == (False, True, False, None)


def test_info_is_no_find() -> None:
    assert not score(result(("loss.divergence", "info", 3)), TRUTH, FAULTY).found_any


@pytest.mark.parametrize(
    ("causes", "rank"),
    [(["learning_rate_too_high"], 1), (["no_signal", "learning_rate_too_high"], 2), (["no_signal"], None), ([], None)],
)
def test_the_place_of_the_right_cause(causes: list[str], rank: int | None) -> None:
    assert score(result(("loss.divergence", "error", 3), causes=causes), TRUTH, FAULTY).cause_rank == rank


def test_a_stop_saves_compute_and_is_grave_on_a_healthy_run() -> None:
    stopped = result(("loss.divergence", "error", 20), status="stopped", steps=25)
    assert score(stopped, TRUTH, FAULTY).saved == pytest.approx(0.75)
    early = result(status="stopped", steps=25, variant="healthy")
    assert score(early, None, HEALTHY).alarm == "error"


@pytest.mark.parametrize(("severity", "alarm"), [("info", ""), ("warning", "warning"), ("error", "error")])
def test_alarms_on_healthy_runs(severity: str, alarm: str) -> None:
    assert score(result(("loss.spike", severity, 3), variant="healthy"), None, HEALTHY).alarm == alarm


@pytest.mark.parametrize(("step", "right"), [(36, True), (37, True), (38, False), (30, False)])
def test_values_that_are_not_finite_are_due_at_their_step(step: int, right: bool) -> None:
    truth = Truth(("loss.non_finite",), ("corrupted_batch",), onset=37, non_finite=True)
    assert score(result(("loss.non_finite", "error", step)), truth, FAULTY).at_step is right


def test_faults_that_do_no_harm_do_not_count() -> None:
    def run(variant: str, skill: float, seed: int = 0) -> dict[str, Any]:
        return {"program": "torch/example", "variant": variant, "seed": seed, "skill": skill, "first_bad": None}

    checks = check_runs(
        [run("faulty", 0.1), run("fixed", 0.9), run("faulty", 0.85, 1), run("fixed", 0.9, 1), run("healthy", 0.1, 2)]
    )
    assert {k: c.counts_as for k, c in checks.items()} == {
        "torch/example:faulty:0": "faulty",
        "torch/example:fixed:0": "healthy",
        "torch/example:faulty:1": "equivalent",
        "torch/example:fixed:1": "healthy",
        "torch/example:healthy:2": "weak",
    }


def test_figures_over_several_runs() -> None:
    found = score(result(("loss.divergence", "error", 4), causes=["learning_rate_too_high"]), TRUTH, FAULTY)
    missed = score(result(), TRUTH, FAULTY)
    silent = score(result(variant="healthy"), None, HEALTHY)
    loud = score(result(("loss.spike", "warning", 3), variant="healthy"), None, HEALTHY)
    told = figures([found, missed, silent, loud])
    assert (told["faulty_runs"], told["healthy_runs"]) == (2, 2)
    assert told["found"] == told["root_right"] == told["cause_top_1"] == told["healthy_with_warning"] == 0.5
    assert told["healthy_with_error_or_stop"] == 0.0
    assert figures([])["found"] is None
    rows = per_code([found, missed, silent], {"torch/example": TRUTH})
    assert [(r["code"], r["runs"], r["found"]) for r in rows] == [("loss.divergence", 2, 0.5)]


def test_twins_and_frameworks_are_on_the_same_side_of_the_split() -> None:
    halves = [half_of(f"program-{i}") for i in range(200)]
    assert halves == [half_of(f"program-{i}") for i in range(200)]
    assert 70 < halves.count("report") < 130


def test_skill_is_one_when_perfect_and_zero_when_trivial() -> None:
    assert accuracy_skill([0, 1, 1, 1], [0, 1, 1, 1]) == 1.0
    assert accuracy_skill([1, 1, 1, 1], [0, 1, 1, 1]) == 0.0
    assert accuracy_skill([[float("nan")] * 2] * 4, [0, 1, 1, 1]) == -1.0
    assert r2_skill([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 1.0
    assert r2_skill([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]) == 0.0
    assert entropy_skill([0.5, 0.5], [0, 1]) == pytest.approx(0.0)
    assert fraction_skill(0.5, trivial=1.0) == 0.5
