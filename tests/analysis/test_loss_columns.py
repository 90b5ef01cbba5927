"""Losses in parts, of several data sets, and under names that say more than that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from failguard.analysis import analyze
from failguard.analysis.columns import roles_of
from failguard.analysis.course import arrange
from failguard.analysis.course_rows import Epoch
from failguard.analysis.log import in_memory, read_series
from failguard.analysis.loss_columns import find_losses
from failguard.errors import ConfigurationError, InputError


def losses_of(names: list[str], given: dict[str, str] | None = None) -> tuple[str | None, str | None]:
    log = in_memory({name: [1.0, 0.5] for name in names})
    roles = roles_of(log.names, given)
    find_losses(log, roles)
    assert not {roles.loss, roles.val_loss} & {*roles.metrics}, "a column has one part"
    return (roles.train_losses or [None])[0], roles.val_loss


@pytest.mark.parametrize(
    ("names", "train", "validation"),
    [
        (["train_losses", "val_losses"], "train_losses", "val_losses"),
        (["avg_train_loss", "avg_val_loss"], "avg_train_loss", "avg_val_loss"),
        (["TrainLoss", "ValLoss"], "TrainLoss", "ValLoss"),
        (["trainingLosses", "validationLosses"], "trainingLosses", "validationLosses"),
        (["Total Loss"], "Total Loss", None),
        (["a_loss", "b_loss", "mean_loss"], "mean_loss", None),
        (["train/loss", "train/running_loss"], "train/loss", None),
        (["epoch", "mse_loss"], "mse_loss", None),
        (["train_loss", "test_loss"], "train_loss", "test_loss"),
        (["train_loss", "val_loss", "test_loss"], "train_loss", "val_loss"),
        (["loss", "eval_news_loss", "eval_law_loss"], "loss", "eval_news_loss"),
        (["train/box_loss", "train/cls_loss", "val/box_loss", "val/cls_loss"], "train_loss", "val_loss"),
        (["train_loss", "train_kl_loss", "train_rec_loss", "val_loss", "val_kl_loss"], "train_loss", "val_loss"),
        (["train/box_loss", "train/cls_loss", "val_loss"], "train_loss", "val_loss"),
        (["kl_loss", "rec_loss"], None, None),
        (["G_loss", "D_loss"], None, None),
        (["train/generator_loss", "train/critic_loss"], None, None),
        (["policy_loss"], None, None),
        (["accuracy", "gloss"], None, None),
    ],
)
def test_which_column_is_the_loss(names: list[str], train: str | None, validation: str | None) -> None:
    assert losses_of(names) == (train, validation)


def test_what_the_user_says_is_kept() -> None:
    names = ["train/box_loss", "train/cls_loss", "val/box_loss"]
    assert losses_of(names, {"train_loss": "train/cls_loss"}) == ("train/cls_loss", "val/box_loss")
    assert losses_of(["G_loss", "D_loss"], {"train_loss": "G_loss"}) == ("G_loss", None)
    with pytest.raises(ConfigurationError, match="no column 'train_loss'"):
        losses_of(names, {"train_loss": "train_loss"})


def epochs_of(columns: dict[str, Any], monitor: str = "val_loss") -> tuple[list[dict[str, float]], list[str]]:
    course = arrange(read_series(columns), None, monitor)
    return [e.metrics for e in course.events() if isinstance(e, Epoch)], course.notes


def test_parts_are_summed() -> None:
    found, notes = epochs_of(
        {
            "epoch": [0, 1],
            "train/box_loss": [1.0, 0.5],
            "train/cls_loss": [2.0, None],
            "val/box_loss": [1.5, 0.75],
            "val/cls_loss": [2.5, 2.0],
        }
    )
    assert found[0]["train_loss"] == 3.0
    assert "train_loss" not in found[1], "one part is missing"
    assert [m["val_loss"] for m in found] == [4.0, 2.75]
    assert found[0]["train/box_loss"] == 1.0, "the parts are still metrics"
    assert "'train_loss' is the sum of 'train/box_loss', 'train/cls_loss'." in notes


def test_parts_of_different_length_are_not_summed() -> None:
    with pytest.raises(InputError, match="'train/a_loss', 'train/b_loss'"):
        epochs_of({"train/a_loss": [1.0, 0.5], "train/b_loss": [1.0]})


def test_several_validation_sets_are_named() -> None:
    found, notes = epochs_of(
        {"epoch": [0, 1], "loss": [1.0, 0.5], "eval_a_loss": [2.0, 1.0], "eval_b_loss": [9.0, 9.0]}
    )
    assert [m["val_loss"] for m in found] == [2.0, 1.0]
    assert "There are 2 validation losses: 'eval_a_loss' was taken, as the first." in notes


def test_losses_that_cannot_be_told_apart_are_named() -> None:
    with pytest.raises(InputError, match=r"cannot be told which .* 'G_loss', 'D_loss'.*--column train_loss=NAME"):
        epochs_of({"epoch": [0, 1], "G_loss": [1.0, 2.0], "D_loss": [1.0, 0.5]})


def test_the_log_of_a_detector_that_overfits(tmp_path: Path) -> None:
    lines = [
        "                  epoch,      train/box_loss,      train/cls_loss,        val/box_loss,        val/cls_loss"
    ]
    for i in range(40):
        fall, rise = 0.9**i, 0.03 * max(i - 12, 0)
        lines.append(f"{i},{1 + 2 * fall:.5f},{0.2 + 3 * fall:.5f},{1.5 + fall + rise:.5f},{0.8 + fall + rise:.5f}")
    log = tmp_path / "results.csv"
    log.write_text("\n".join(lines))
    (finding,) = analyze(log).findings
    assert finding.code == "metric.overfitting"
    assert finding.where.tensor == "val_loss"
