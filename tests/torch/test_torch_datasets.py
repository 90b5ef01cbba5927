"""Rows of a loader are read beforehand only where that runs none of the user's code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from failguard.torch import datasets
from failguard.torch.datasets import held_rows

pytestmark = pytest.mark.framework

X, Y = torch.arange(40.0).reshape(20, 2), torch.arange(20)
DATA = TensorDataset(X, Y)


class Own(TensorDataset):
    def __getitem__(self, i: Any) -> Any:
        raise AssertionError("asked")


class Asked(Dataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return 20

    def __getitem__(self, i: int) -> Any:
        raise AssertionError("asked")


@pytest.mark.parametrize("more", [{}, {"shuffle": True}, {"num_workers": 2}, {"drop_last": True}])
def test_tensors_in_memory_are_taken_as_they_are(more: dict[str, Any]) -> None:
    rows = held_rows(DataLoader(DATA, batch_size=4, **more))
    assert rows is not None
    assert rows[0] is X
    assert rows[1] is Y


def test_parts_of_parts_are_the_rows_they_name() -> None:
    part = Subset(Subset(DATA, range(5, 15)), [9, 0, 3])
    rows = held_rows(DataLoader(part, batch_size=4))
    assert rows is not None
    assert rows[1].tolist() == [14, 5, 8]
    assert rows[1].tolist() == [int(part[i][1]) for i in range(3)]


def test_large_parts_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MOST_COPIED_BYTES", 50)
    assert held_rows(DataLoader(Subset(DATA, range(10)), batch_size=4)) is None
    assert held_rows(DataLoader(TensorDataset(X.bfloat16()), batch_size=4)) is None
    assert held_rows(DataLoader(DATA, batch_size=4)) is not None


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(Own(X, Y)),
        DataLoader(Asked()),
        DataLoader(Subset(Asked(), range(3))),
        DataLoader(DATA, sampler=SubsetRandomSampler([1, 2])),
        DataLoader(DATA, sampler=WeightedRandomSampler([1.0] * 20, 20)),
        DataLoader(DATA, batch_sampler=[[0, 1], [2, 3]]),
        [DataLoader(DATA)],
        [(X, Y)],
        None,
    ],
)
def test_anything_else_is_left_alone(loader: Any) -> None:
    assert held_rows(loader) is None


def test_samplers_that_draw_every_row() -> None:
    for sampler in (SequentialSampler(DATA), RandomSampler(DATA)):
        assert held_rows(DataLoader(DATA, sampler=sampler)) is not None
        assert held_rows(DataLoader(DATA, batch_sampler=BatchSampler(sampler, 4, False))) is not None
