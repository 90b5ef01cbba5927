"""The zoo itself: its truths are of the taxonomy, it is as large as promised, and its programs run."""

from __future__ import annotations

import pytest
from benchmarks.detection.program import FRAMEWORKS, PROGRAMS, Selection
from benchmarks.detection.zoo import load

from failguard.core.codes import CAUSES, FINDINGS

pytestmark = pytest.mark.framework

pytest.importorskip("lightning")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module", autouse=True)
def zoo() -> None:
    pytest.importorskip("keras")
    for framework in FRAMEWORKS:
        load(framework)


def test_truths_are_of_the_taxonomy() -> None:
    for program in PROGRAMS.values():
        if program.truth is not None:
            assert program.truth.codes <= set(FINDINGS), program.name
            assert set(program.truth.causes) <= set(CAUSES), program.name
        assert program.about, program.name


@pytest.mark.parametrize("half", ["report", "calibration"])
def test_each_half_is_large_enough(half: str) -> None:
    runs = Selection(half=half).runs()
    assert sum(r.faulty for r in runs) >= 60
    assert sum(not r.faulty for r in runs) >= 60


@pytest.mark.parametrize("name", ["lightning/bad-batch", "keras/bad-batch", "torch/layers-in-a-list"])
def test_a_program_and_its_twin(name: str) -> None:
    from benchmarks.detection.worker import run_job

    faulty = run_job({"program": name, "variant": "faulty", "seed": 0, "watch": "failguard"})
    fixed = run_job({"program": name, "variant": "fixed", "seed": 0, "watch": "failguard"})
    truth = PROGRAMS[name].truth
    assert truth is not None
    assert faulty["root"] in truth.roots
    assert fixed["root"] is None
    assert faulty["part_errors"] == fixed["part_errors"] == []
