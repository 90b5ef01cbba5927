"""The programs of ``make bench-gpu`` work on a CPU at a tiny size; without a GPU the command says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are no part of the package

from benchmarks.overhead import gpu

CPU = torch.device("cpu")


@pytest.mark.framework
@pytest.mark.parametrize("name", [n for n in gpu.PROGRAMS if n != "compiled"])
@pytest.mark.parametrize("watched", [True, False])
def test_a_program_runs(name, watched):
    left = iter(range(12))
    report = gpu.train(gpu.PROGRAMS[name], CPU, lambda: next(left, None) is not None, watched)
    assert next(left, None) is None
    if watched:
        assert report.progress.steps == 12
        assert not report.failing
    else:
        assert report is None


@pytest.mark.slow
@pytest.mark.framework
def test_the_compiled_program_runs():
    left = iter(range(6))
    gpu.train(gpu.PROGRAMS["compiled"], CPU, lambda: next(left, None) is not None, True)
    assert next(left, None) is None


@pytest.mark.framework
def test_a_wait_is_named(monkeypatch):
    def waiting(*args, **kwargs):
        raise RuntimeError("called a synchronizing CUDA operation\nmore")

    assert gpu.check_syncs(gpu.PROGRAMS["small"], CPU, 5) == "none"
    monkeypatch.setattr(gpu, "_update", waiting)
    assert gpu.check_syncs(gpu.PROGRAMS["small"], CPU, 5) == "called a synchronizing CUDA operation"


@pytest.mark.framework
def test_without_a_gpu_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert gpu.main() == 2
    assert "needs an NVIDIA GPU" in capsys.readouterr().out


@pytest.mark.framework
@pytest.mark.usefixtures("contained")
def test_a_wait_that_the_guard_contains_is_named(monkeypatch):
    from failguard.torch.look_inside import LookInside

    def waiting(*args):
        raise RuntimeError("called a synchronizing CUDA operation")

    monkeypatch.setattr(LookInside, "_see_loss", waiting)
    found = gpu.check_syncs(gpu.PROGRAMS["small"], CPU, 5)
    assert found == "looking inside: RuntimeError: called a synchronizing CUDA operation"
