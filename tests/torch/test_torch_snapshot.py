import math

import pytest
import torch
from torch import nn

from failguard.torch.snapshot import RunningStatistics, Snapshot, non_finite_parameters

pytestmark = pytest.mark.framework


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_a_snapshot_brings_parameters_and_buffers_back():
    model = net()
    model(torch.randn(6, 3))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    snapshot = Snapshot(model)
    snapshot.save()
    model(torch.randn(6, 3) + 5)
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(math.nan)
    snapshot.restore()
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_second_save_uses_the_same_memory():
    model = net()
    snapshot = Snapshot(model)
    snapshot.save()
    places = [t.data_ptr() for t in snapshot._saved.values()]
    model[0].weight.data.fill_(7.0)
    snapshot.save()
    assert [t.data_ptr() for t in snapshot._saved.values()] == places
    model[0].weight.data.zero_()
    snapshot.restore()
    assert model[0].weight.eq(7.0).all()


def test_its_size_counts_shared_weights_once():
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    model[1].weight = model[0].weight
    assert Snapshot(model).size_bytes == 8 * 8 * 4


def test_bad_parameters_are_named_and_large_ones_are_not():
    model = net()
    assert non_finite_parameters(model) == []
    model[0].weight.data.fill_(3e38)
    assert non_finite_parameters(model) == []
    model[2].bias.data[0] = math.inf
    assert non_finite_parameters(model) == ["2.bias"]
    model[2].bias.requires_grad_(False)  # some frozen parameters are masks
    assert non_finite_parameters(model) == []


def test_names_are_those_of_the_model_inside_a_compiled_one():
    model = net()
    model[0].weight.data[0, 0] = math.nan
    assert non_finite_parameters(torch.compile(model)) == ["0.weight"]


def test_running_statistics_that_went_bad_are_mended():
    model = net()
    model(torch.randn(6, 3))
    statistics = RunningStatistics(model)
    statistics.keep()
    kept = model[1].running_mean.clone()
    model(torch.full((6, 3), math.nan))
    assert statistics.non_finite() == ["1.running_mean", "1.running_var"]
    assert statistics.mend() == ["1.running_mean", "1.running_var"]
    assert torch.equal(model[1].running_mean, kept)
    assert statistics.non_finite() == []


def test_buffers_that_never_were_finite_are_left_alone():
    model = net()
    model.register_buffer("mask", torch.full((2, 2), -math.inf).triu(1))
    model.register_buffer("steps", torch.zeros(1, dtype=torch.int64))
    statistics = RunningStatistics(model)
    assert len(statistics) == 2
    assert statistics.non_finite() == []
