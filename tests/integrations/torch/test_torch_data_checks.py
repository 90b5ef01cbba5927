"""Batches are checked as they pass: what is wrong is named, some of it raises, and training is the same to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from failguard import DataChecks, TrainingFailure
from failguard.torch import FailGuard

pytestmark = pytest.mark.framework


def train(batches: Any, check_data: Any = True, *, guarded: bool = True) -> tuple[torch.nn.Module, Any]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    if not guarded:
        for x, y in batches:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        return model, None
    with FailGuard(model, optimizer, check_data=check_data, sinks=[]) as guard:
        for x, y in batches:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            if guard.step(loss=loss, batch=(x, y)):
                optimizer.step()
            if guard.should_stop:
                break
    return model, guard.report


def loader(n: int = 640) -> DataLoader:
    r = torch.Generator().manual_seed(1)
    x = torch.randn(n, 6, generator=r)
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=32, shuffle=True)


def codes(report: Any) -> set[str]:
    return {f.code for f in report.findings if f.code.startswith("data.")}


def test_with_checks_training_is_the_same_to_the_bit() -> None:
    bare, _ = train(loader(), guarded=False)
    after_bare = torch.get_rng_state()
    watched, report = train(loader(), DataChecks())
    assert all(torch.equal(a, b) for a, b in zip(bare.parameters(), watched.parameters(), strict=True))
    assert torch.equal(after_bare, torch.get_rng_state())
    assert codes(report) == set()
    assert report.part_errors == []


def test_copies_of_batches_are_named() -> None:
    batches = list(loader())
    _, report = train([*batches[:4], batches[1], *batches[5:]])
    assert codes(report) == {"data.repeated_batch"}
    (finding,) = (f for f in report.findings if f.code == "data.repeated_batch")
    assert finding.where.batch == 4
    assert "those of batch 1" in finding.message
    assert codes(train([*batches[:4], batches[1]], DataChecks(ignore=["data.repeated_batch"]))[1]) == set()
    assert codes(train([*batches[:4], batches[1]], False)[1]) == set()


class Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
    """Every worker gives all of it, as where nobody asks which worker it is."""

    def __iter__(self) -> Any:
        r = torch.Generator().manual_seed(3)
        for _ in range(8):
            x = torch.randn(32, 6, generator=r)
            yield x, x[:, :3].argmax(1)


@pytest.mark.slow
def test_workers_that_give_the_same_batches_are_named() -> None:
    _, report = train(DataLoader(Stream(), batch_size=None, num_workers=2))
    (finding,) = (f for f in report.findings if f.code == "data.repeated_batch")
    assert finding.where.batch == 1
    assert "those of batch 0" in finding.message


def test_what_is_to_raise_raises_after_the_end() -> None:
    batches = list(loader())
    with pytest.raises(TrainingFailure) as caught:
        train([*batches[:4], batches[1], *batches[5:]], DataChecks(raises=["data.repeated_batch"]))
    assert caught.value.report.root.code == "data.repeated_batch"
    assert caught.value.report.status == "stopped"
    assert caught.value.report.progress.steps < len(batches)


def test_a_second_epoch_of_the_same_batches_in_order_says_nothing() -> None:
    batches = list(loader())[:5]
    assert codes(train(batches * 6)[1]) == set()


def test_a_bad_value_raises_before_its_batch_is_trained_on() -> None:
    batches = list(loader())
    batches[0][0][3, 2] = float("nan")
    with pytest.raises(TrainingFailure) as caught:
        train(batches, DataChecks(raises=["data.non_finite"]))
    found = {f.code: f for f in caught.value.report.findings}
    assert found["data.non_finite"].severity == "error"
    assert "corrupted_batch" in {c.code for c in caught.value.report.diagnosis.causes}
    assert caught.value.report.progress.steps <= 1


def test_a_later_batch_of_absurd_values_is_named_with_its_rows() -> None:
    batches = list(loader())
    batches[12][0][7, 1] = 3e5
    _, report = train(batches)
    (finding,) = (f for f in report.findings if f.code == "data.outliers")
    assert (finding.where.batch, finding.where.rows) == (12, (7,))
    if report.root.code != "data.outliers":
        assert report.root.code in ("loss.spike", "loss.divergence")


def test_the_rows_behind_a_bad_loss_are_named_wherever_the_batch_is() -> None:
    batches = list(loader())
    batches[18][0][[4, 9], 2] = float("inf")  # not among those that are read anyway
    _, report = train(batches)
    root = report.root
    assert (root.code, root.where.tensor, root.where.batch, root.where.rows) == ("data.non_finite", "input", 18, (4, 9))
    assert "(rows 4, 9)" in report.diagnosis.causes[0].evidence[0]


def test_one_class_that_outweighs_the_other_is_evidence_once_nothing_else_is_predicted() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    r = torch.Generator().manual_seed(1)
    with FailGuard(model, optimizer, sinks=[], policy="observe") as guard:
        for step in range(2_000):
            x, y = torch.randn(32, 6, generator=r), (torch.rand(32, generator=r) < 1 / 15).long()
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            if guard.step(loss=loss, batch=(x, y)):
                optimizer.step()
            if step % 100 == 99:
                guard.end_epoch()
    report = guard.report
    assert report.root is not None
    assert report.root.code == "loss.no_learning"
    cause = next(c for c in report.diagnosis.causes if c.code == "class_imbalance")
    assert "are class 0), now one class is predicted (100% of the last 32 samples)" in cause.evidence[0]
