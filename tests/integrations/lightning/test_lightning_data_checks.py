"""What is said of the data of a Lightning fit: before the first step where they are in memory, else as they pass."""

from __future__ import annotations

import math
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Subset, SubsetRandomSampler, TensorDataset

from failguard import DataChecks, TrainingFailure
from failguard.lightning import FailGuard

pytestmark = pytest.mark.framework

X = torch.randn(320, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :3].argmax(1)
NEW = torch.randn(80, 6, generator=torch.Generator().manual_seed(1))
LEAKED = torch.cat([X[:20], NEW])


class Net(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Dropout(0.1), torch.nn.Linear(8, 3))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Noisy(Dataset):  # type: ignore[type-arg]
    """Draws from a generator of its own: asking for a sample moves it."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x, self.generator, self.asked = x, torch.Generator().manual_seed(5), 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        self.asked += 1
        noise = 0.01 * torch.randn(6, generator=self.generator)
        return self.x[i] + noise, int(self.x[i, :3].argmax())


def held(x: torch.Tensor, **more: Any) -> DataLoader:  # type: ignore[type-arg]
    return DataLoader(TensorDataset(x, x[:, :3].nan_to_num().argmax(1)), batch_size=32, **more)


def fit(train: Any, validation: Any = None, check_data: Any = True, **more: Any) -> tuple[Net, Any]:
    torch.manual_seed(0)
    guards = [] if check_data is None else [FailGuard(check_data=check_data, sinks=[])]
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", callbacks=guards, **quiet, **more)
    module = Net()
    trainer.fit(module, train, validation)
    return module, guards[0].report if guards else None


def data_findings(report: Any) -> list[Any]:
    assert report.part_errors == []
    return [f for f in report.findings if f.code.startswith("data.")]


@pytest.mark.parametrize("kind", ["in memory", "of its own class"])
@pytest.mark.parametrize("validation", [NEW, LEAKED], ids=["apart", "leaked"])
def test_with_checks_training_is_the_same_to_the_bit(kind: str, validation: torch.Tensor) -> None:
    def loader() -> Any:
        return held(X, shuffle=True) if kind == "in memory" else DataLoader(Noisy(X), batch_size=32, shuffle=True)

    bare, _ = fit(loader(), held(validation), None)
    stream = torch.get_rng_state()
    train = loader()
    watched, report = fit(train, held(validation))
    assert torch.equal(stream, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(bare.parameters(), watched.parameters(), strict=True))
    assert [f.code for f in data_findings(report)] == (
        ["data.leakage"] if validation is LEAKED and kind == "in memory" else []
    )
    if kind != "in memory":
        assert train.dataset.asked == 2 * len(X)


def test_rows_that_are_not_finite_are_named_before_the_first_step() -> None:
    bad = X.clone()
    bad[[100, 200], 2] = math.nan
    _, report = fit(held(bad, shuffle=True), held(NEW))
    (finding,) = data_findings(report)
    assert (finding.code, finding.step, finding.where.rows) == ("data.non_finite", -1, (100, 200))
    loss = next(f for f in report.findings if f.code == "loss.non_finite")
    assert loss.where.tensor == "input"
    assert loss.where.batch == loss.step
    assert loss.where.rows  # of the batch
    assert report.diagnosis.likely_cause == "corrupted_batch"
    assert "rows 100, 200" in report.diagnosis.causes[0].evidence[0]


def test_what_is_to_raise_raises_before_the_first_step() -> None:
    bad = X.clone()
    bad[100, 2] = math.inf
    with pytest.raises(TrainingFailure) as caught:
        fit(held(bad), held(NEW), DataChecks(raises=["data.non_finite"]))
    assert caught.value.report.progress.steps == 0


@pytest.mark.parametrize("sanity", [0, 2])
def test_validation_rows_of_other_datasets_are_compared_as_they_pass(sanity: int) -> None:
    pairs = [(x, y) for x, y in zip(X, Y, strict=True)]
    _, report = fit(DataLoader(pairs, batch_size=32, shuffle=True), held(LEAKED), num_sanity_val_steps=sanity)
    (finding,) = data_findings(report)
    assert finding.code == "data.leakage"
    assert finding.step >= 9
    assert finding.evidence["overlap"] == 20


def test_rows_that_a_sampler_leaves_out_are_no_training_rows() -> None:
    data = TensorDataset(X, Y)
    train = DataLoader(data, batch_size=32, sampler=SubsetRandomSampler(range(160)))
    validation = DataLoader(data, batch_size=32, sampler=SubsetRandomSampler(range(160, 320)))
    assert data_findings(fit(train, validation)[1]) == []
    train, validation = (DataLoader(Subset(data, rows), batch_size=32) for rows in (range(160), range(160, 320)))
    assert data_findings(fit(train, validation)[1]) == []
    overlapping = DataLoader(Subset(Subset(data, range(100, 320)), range(100)), batch_size=32)  # rows 100 to 199
    assert [f.code for f in data_findings(fit(train, overlapping)[1])] == ["data.leakage"]


@pytest.mark.parametrize("kind", ["in memory", "as they pass"])
def test_classes_that_training_lacks_and_validation_has(kind: str) -> None:
    rows = ((Y == 0) | (torch.arange(len(Y)) % 40 == 0)).nonzero().flatten().repeat(4)
    other = torch.randn(200, 6, generator=torch.Generator().manual_seed(2))
    pairs = [(row, int(row[:3].argmax())) for row in other]
    validation = held(other) if kind == "in memory" else DataLoader(pairs, batch_size=32)
    train = TensorDataset(X[rows], Y[rows])
    _, report = fit(DataLoader(train, batch_size=32, shuffle=True), validation)
    raised = [f for f in data_findings(report) if f.severity != "info"]
    assert [f.code for f in raised] == ["data.imbalance"]
    assert raised[0].evidence["validation_share"] > 0.25
    assert report.root.code == "data.imbalance"
    # The same rare classes in both are how the data are.
    split = torch.utils.data.random_split(train, [len(train) - 120, 120])
    _, report = fit(*(DataLoader(part, batch_size=32, shuffle=i == 0) for i, part in enumerate(split)))
    assert [f.code for f in data_findings(report) if f.code == "data.imbalance" and f.severity != "info"] == []


def test_several_validations_have_no_classes_in_common() -> None:
    rows = ((Y == 0) | (torch.arange(len(Y)) % 40 == 0)).nonzero().flatten().repeat(4)
    train = DataLoader(TensorDataset(X[rows], Y[rows]), batch_size=32, shuffle=True)

    class Two(Net):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            super().validation_step(batch, batch_idx)

    other = torch.randn(200, 6, generator=torch.Generator().manual_seed(2))
    pairs = [(row, int(row[:3].argmax())) for row in other]
    guard = FailGuard(sinks=[])
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", callbacks=[guard], **quiet)
    trainer.fit(Two(), train, [DataLoader(pairs, batch_size=32), DataLoader(pairs, batch_size=32)])
    assert [f.code for f in data_findings(guard.report) if f.severity != "info"] == []


class Masked(Net):
    """Leaves targets of NaN out of its loss, or not."""

    masks = True

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        known = ~y.isnan() if self.masks else torch.ones_like(y, dtype=torch.bool)
        return torch.nn.functional.mse_loss(self.net(x)[:, 0][known], y[known])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))


@pytest.mark.parametrize("is_held", [True, False])
@pytest.mark.parametrize("masks", [True, False])
def test_targets_that_are_not_finite_are_wrong_only_where_the_loss_takes_them(is_held: bool, masks: bool) -> None:
    y = X[:, 0] - X[:, 1]
    y[7::9] = math.nan
    rows = TensorDataset(X, y)
    train = DataLoader(rows if is_held else list(rows), batch_size=32)  # type: ignore[arg-type,call-overload]
    guard = FailGuard(sinks=[])
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = lightning.Trainer(max_epochs=3, accelerator="cpu", callbacks=[guard], **quiet)
    module = Masked()
    module.masks = masks
    trainer.fit(module, train)
    report = guard.report
    alarms = [f.code for f in data_findings(report) if f.severity != "info"]
    if masks:
        assert (alarms, report.root) == ([], None)
    else:
        assert alarms == ["data.non_finite"]
        assert report.root.code == "data.non_finite"
        assert report.status == "stopped"
