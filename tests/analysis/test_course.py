"""What the columns of a log are taken for."""

from __future__ import annotations

import math
from typing import Any

import pytest

from failguard.analysis.columns import roles_of
from failguard.analysis.course import Course, arrange
from failguard.analysis.course_rows import Epoch
from failguard.analysis.log import Log, in_memory, read_series
from failguard.errors import ConfigurationError, InputError


class Collected:
    """A course with its events as lists. ``ends[i]`` steps come before the end of epoch ``i``."""

    def __init__(self, course: Course) -> None:
        self.per, self.monitor, self.notes = course.per, course.monitor, course.notes
        self.learning_rate = course.learning_rate
        self.steps: list[int] = []
        self.losses: list[float | None] = []
        self.gradient_norms: list[float | None] = []
        self.epochs: list[Epoch] = []
        self.ends: list[int] = []
        for event in course.events():
            if isinstance(event, Epoch):
                self.epochs.append(event)
                self.ends.append(len(self.steps))
            else:
                self.steps.append(event.step)
                self.losses.append(event.loss)
                self.gradient_norms.append(event.gradient_norm)
        assert len(self.steps) <= course.steps or not self.steps
        assert len(self.epochs) <= course.epochs


def course_of(columns: dict[str, Any], per: Any = None, monitor: str = "val_loss", given: Any = None) -> Collected:
    return Collected(arrange(read_series(columns), per, monitor, given))


def said(course: Collected, text: str) -> bool:
    return any(text in note for note in course.notes)


@pytest.mark.parametrize(
    ("names", "train", "validation"),
    [
        (["loss", "val_loss"], "loss", "val_loss"),
        (["train_loss", "validation_loss"], "train_loss", "validation_loss"),
        (["Train/Loss", "Val/Loss"], "Train/Loss", "Val/Loss"),
        (["Training Loss", "Validation Loss"], "Training Loss", "Validation Loss"),
        (["loss", "train_loss", "valid_loss"], "train_loss", "valid_loss"),
        (["loss", "eval_loss"], "loss", "eval_loss"),
        (["train_loss", "val_loss_epoch"], "train_loss", "val_loss_epoch"),
    ],
)
def test_names_of_losses(names: list[str], train: str, validation: str) -> None:
    roles = roles_of(names)
    assert (roles.loss, roles.val_loss) == (train, validation)


def test_other_roles() -> None:
    roles = roles_of(
        ["epoch", "global_step", "lr-Adam", "grad_norm", "acc", "time", "train_loss_step", "train_loss_epoch"]
    )
    assert (roles.epoch, roles.step, roles.learning_rate, roles.gradient_norm) == (
        "epoch",
        "global_step",
        "lr-Adam",
        "grad_norm",
    )
    assert (roles.step_loss, roles.epoch_loss, roles.loss) == ("train_loss_step", "train_loss_epoch", None)
    assert roles.metrics == ["acc"]


def test_keras_csv_logger() -> None:
    course = course_of({"epoch": [0, 1, 2], "accuracy": [0.1, 0.2, 0.3], "loss": [3, 2, 1], "val_loss": [3, 2, 2]})
    assert course.per == "epoch"
    assert [e.epoch for e in course.epochs] == [0, 1, 2]
    assert course.epochs[1].metrics == {"train_loss": 2.0, "accuracy": 0.2, "val_loss": 2.0}
    assert course.steps == []
    assert said(course, "training loss per epoch from 'loss'")
    assert said(course, "column 'epoch' has one loss an epoch")


LIGHTNING = {
    "epoch": [0, 0, 0, 0, 1, 1, 1, 1],
    "step": [1, 3, 3, 3, 5, 7, 7, 7],
    "train_loss_step": [1.0, 0.8, None, None, 0.6, 0.4, None, None],
    "val_loss": [None, None, 0.9, None, None, None, 0.7, None],
    "train_loss_epoch": [None, None, None, 0.95, None, None, None, 0.55],
}


def test_lightning_csv_logger_per_step() -> None:
    course = course_of(LIGHTNING)
    assert course.per == "step"
    assert course.steps == [1, 3, 5, 7]
    assert course.losses == [1.0, 0.8, 0.6, 0.4]
    assert [(e.epoch, e.step) for e in course.epochs] == [(0, 3), (1, 7)]
    assert course.ends == [2, 4]
    assert course.epochs[0].metrics == {"val_loss": 0.9, "train_loss": 0.95}
    assert said(course, "there is a column 'train_loss_step'")


def test_lightning_csv_logger_per_epoch() -> None:
    course = course_of(LIGHTNING, per="epoch")
    assert [(e.epoch, e.step) for e in course.epochs] == [(0, 3), (1, 7)]
    assert course.epochs[1].metrics == {"val_loss": 0.7, "train_loss": 0.55}
    assert not said(course, "Pass per=")


def as_data_frame(columns: dict[str, Any]) -> dict[str, Any]:
    """With NaN for what is not there, as ``frame.to_dict("list")`` gives it."""
    return {name: [math.nan if v is None else v for v in values] for name, values in columns.items()}


def test_gaps_of_a_data_frame() -> None:
    course, expected = course_of(as_data_frame(LIGHTNING)), course_of(LIGHTNING)
    assert (course.steps, course.losses, course.epochs) == (expected.steps, expected.losses, expected.epochs)
    assert said(course, "as data frames write it")


def test_a_bad_loss_between_the_gaps_of_a_data_frame() -> None:
    columns = as_data_frame(LIGHTNING)
    columns["train_loss_step"][4] = math.nan
    course = course_of(columns)
    assert [math.isnan(loss or 0.0) for loss in course.losses] == [False, False, True, False]
    assert all(math.isfinite(e.metrics["val_loss"]) for e in course.epochs)


@pytest.mark.parametrize(
    "columns",
    [
        {"epoch": [0, 1, 2, 3], "loss": [1, 1, 1, 1], "val_loss": [1, math.nan, math.nan, math.nan]},
        {
            "epoch": [0, 1, 2, 3],
            "loss": [1, math.nan, math.nan, math.nan],
            "val_loss": [1, math.nan, math.nan, math.nan],
        },
        {"epoch": [0, 1, 2, 3], "loss": [1, math.nan, 1, 1], "val_loss": [1, 1, math.nan, 1]},
        {"loss": [1, math.nan, 1, math.nan], "val_loss": [math.nan, 1, math.nan, 1]},
    ],
    ids=["validation fails", "both fail", "single bad values", "no index"],
)
def test_bad_values_are_no_gaps(columns: dict[str, Any]) -> None:
    course = course_of(columns, per="epoch")
    values = [v for e in course.epochs for v in e.metrics.values()]
    bad = sum(isinstance(v, float) and math.isnan(v) for name in ("loss", "val_loss") for v in columns[name])
    assert sum(map(math.isnan, values)) == bad


def test_lightning_without_suffixes_logs_every_few_steps() -> None:
    course = course_of(
        {
            "epoch": [0, 0, 0, 1, 1, 1],
            "step": [9, 19, 19, 29, 39, 39],
            "train_loss": [1.0, 0.8, None, 0.6, 0.4, None],
            "val_loss": [None, None, 0.9, None, None, 0.7],
        }
    )
    assert course.per == "step"
    assert course.epochs[0].metrics["train_loss"] == pytest.approx(0.9), "the mean of the epoch's steps"
    assert said(course, "4 losses in 2 epoch(s)")


def test_the_mean_of_an_epoch_shows_a_bad_loss() -> None:
    course = course_of({"epoch": [0, 0, 1, 1], "loss": [1.0, math.nan, 0.5, 0.5]}, per="epoch")
    assert math.isnan(course.epochs[0].metrics["train_loss"])
    assert course.epochs[1].metrics["train_loss"] == 0.5


def test_steps_without_epochs_end_one_at_each_validation() -> None:
    course = course_of({"iteration": [0, 10, 20, 30], "loss": [4, 3, 2, 1], "val_loss": [None, 3.5, None, 1.5]})
    assert course.per == "step"
    assert course.steps == [0, 10, 20, 30]
    assert [(e.epoch, e.step, e.metrics["val_loss"]) for e in course.epochs] == [(0, 10, 3.5), (1, 30, 1.5)]


def test_series_of_different_length_are_steps_and_validations() -> None:
    course = course_of({"loss": [6, 5, 4, 3, 2, 1], "val_loss": [5, 2]})
    assert course.per == "step"
    assert [(e.step, e.metrics["val_loss"]) for e in course.epochs] == [(2, 5.0), (5, 2.0)]
    assert said(course, "differ in length")


def test_series_that_cannot_be_aligned() -> None:
    with pytest.raises(InputError, match=r"'train_loss' has 3.*'val_loss' has 2"):
        course_of({"train_loss": [3, 2, 1], "val_loss": [3, 2]})
    with pytest.raises(InputError, match="per='epoch'"):
        course_of({"train_loss": [4, 3, 2, 1], "val_loss": [3, 2]}, per="epoch")
    with pytest.raises(InputError, match="cannot be aligned"):
        course_of({"train_loss": [3, 2], "val_loss": [3, 2, 1, 1]}, per="step")


@pytest.mark.parametrize(
    ("columns", "per"),
    [
        ({"loss": [1.0] * 300}, "step"),
        ({"loss": [1.0] * 30}, "epoch"),
        ({"loss": [1.0] * 300, "val_loss": [1.0] * 300}, "epoch"),
        ({"step": [0, 100], "loss": [1, 2]}, "step"),
        ({"step": [0, 100], "loss": [1, 2], "val_loss": [1, 2]}, "epoch"),
        ({"val_loss": [1.0, 2.0]}, "epoch"),
        ({"epoch": [0, 0, 0], "loss": [1, 2, 3]}, "step"),
    ],
)
def test_guesses_are_said(columns: dict[str, Any], per: str) -> None:
    course = course_of(columns)
    assert course.per == per
    assert said(course, f"Read as per='{per}'")


@pytest.mark.parametrize(
    ("monitor", "columns", "name"),
    [
        ("val_loss", {"validation_loss": [1.0]}, "val_loss"),
        ("validation_loss", {"val_loss": [1.0]}, "val_loss"),
        ("Val Loss", {"val_loss": [1.0]}, "val_loss"),
        ("val_acc", {"loss": [1.0], "val_acc": [0.5]}, "val_acc"),
        ("val_acc", {"loss": [1.0], "Val/Acc": [0.5]}, "Val/Acc"),
        ("loss", {"train_loss": [1.0]}, "train_loss"),
        ("train_loss", {"loss": [1.0]}, "train_loss"),
    ],
)
def test_the_monitor_is_found_under_its_usual_names(monitor: str, columns: dict[str, Any], name: str) -> None:
    course = course_of(columns, monitor=monitor)
    assert course.monitor == name
    assert name in course.epochs[0].metrics


def test_a_monitor_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"monitor='val_ac' .* mean 'val_acc'"):
        course_of({"loss": [1.0], "val_acc": [0.5]}, monitor="val_ac")
    with pytest.raises(InputError, match="There are: 'loss'"):
        course_of({"loss": [1.0]}, monitor="zzz")
    assert said(course_of({"loss": [1.0, 2.0]}), "no validation loss")


def test_no_loss_at_all() -> None:
    with pytest.raises(InputError, match=r"None of the columns is a loss: 'a', 'b'"):
        course_of({"a": [1.0], "b": [1.0]})
    assert course_of({"acc": [0.5, 0.6]}, monitor="acc").epochs
    with pytest.raises(InputError, match="per='step' needs"):
        course_of({"val_loss": [1.0]}, per="step")


def test_text_in_a_needed_column_is_refused_and_elsewhere_left_out() -> None:
    def log_with(text: dict[str, str]) -> Log:
        log = in_memory({"loss": [1.0, None], "lr": [0.1, None]})
        log.text = text
        return log

    with pytest.raises(InputError, match="'loss' holds text at row 3: 'oops'"):
        arrange(log_with({"loss": "row 3: 'oops'"}), None, "val_loss")
    course = Collected(arrange(log_with({"phase": "row 2: 'train'"}), None, "val_loss"))
    assert said(course, "Text was left out in the columns 'phase'")
    assert course.learning_rate == 0.1


def test_a_resumed_run_replaces_what_it_did_again() -> None:
    course = course_of({"step": [0, 1, 2, 3, 2, 3, 4], "loss": [9, 8, 7, 6, 5, 4, 3]})
    assert course.steps == [0, 1, 2, 3, 4]
    assert course.losses == [9.0, 8.0, 5.0, 4.0, 3.0]
    assert said(course, "2 earlier rows were replaced")


def test_rows_from_last_to_first() -> None:
    course = course_of({"epoch": [2, 1, 0], "loss": [1, 2, 3]})
    assert [e.metrics["train_loss"] for e in course.epochs] == [3.0, 2.0, 1.0]
    assert said(course, "counts down")


def test_rows_in_no_order() -> None:
    with pytest.raises(InputError, match=r"in no order\. Sort them by 'step'"):
        course_of({"step": [i * 617 % 1000 for i in range(1000)], "loss": [1.0] * 1000})


def test_a_step_that_starts_again_each_epoch_is_counted_through() -> None:
    course = course_of({"epoch": [0, 0, 1, 1], "step": [0, 1, 0, 1], "loss": [4, 3, 2, 1]})
    assert course.steps == [0, 1, 2, 3]
    assert said(course, "starts again in each epoch")


def test_equal_steps_are_kept() -> None:
    assert course_of({"step": [0, 0, 1], "loss": [3, 2, 1]}).steps == [0, 0, 1]


def test_fractions_of_epochs_are_no_index() -> None:
    course = course_of({"epoch": [0.5, 1.0], "step": [10, 20], "loss": [2, 1], "val_loss": [2, 1]})
    assert [e.step for e in course.epochs] == [10, 20]
    assert said(course, "fractions")


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e300])
def test_an_index_that_is_none(value: float) -> None:
    with pytest.raises(InputError, match=r"Row 2 of the column 'step'"):
        course_of({"step": [0, value], "loss": [1, 1]})


def test_gaps_in_the_index_are_filled() -> None:
    course = course_of({"step": [None, 3, math.nan, 5], "loss": [4, 3, 2, 1]})
    assert course.steps == [3, 3, 3, 5]


def test_gradient_norms_without_a_loss_count_as_steps() -> None:
    course = course_of({"step": [0, 1, 2], "loss": [2.0, None, 1.0], "grad_norm": [None, 5.0, 6.0]})
    assert course.losses == [2.0, None, 1.0]
    assert course.gradient_norms == [None, 5.0, 6.0]


def test_columns_can_be_named() -> None:
    columns = {"objective": [3.0, 2.0, 1.0], "cost": [3.0, 2.5, 2.6], "loss": [0.0, 0.0, 0.0]}
    course = course_of(columns, given={"train_loss": "objective", "val_loss": "cost"}, per="epoch")
    assert course.epochs[1].metrics == {"train_loss": 2.0, "val_loss": 2.5, "loss": 0.0}
    assert said(course, "training loss per epoch from 'objective', validation loss from 'cost'")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train": "loss"}, "'train' is no role. Roles: train_loss, .* Did you mean 'train_loss'"),
        ({"val_loss": "los"}, "no column 'los' for val_loss .* Did you mean 'loss'"),
        ({"val_loss": "loss", "train_loss": "loss"}, "given twice"),
    ],
)
def test_wrong_names_of_columns(given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        course_of({"loss": [1.0, 2.0]}, given=given)


def test_the_steps_of_each_episode_are_no_index() -> None:
    n = 400
    course = course_of(
        {
            "episode": list(range(n)),
            "steps": [17 + 31 * i % 90 for i in range(n)],
            "reward": [float(i) for i in range(n)],
        },
        monitor="reward",
    )
    assert [e.epoch for e in course.epochs] == list(range(n))
    assert course.epochs[1].metrics == {"reward": 1.0, "steps": 48.0}
    assert said(course, "'steps' goes up and down, so it is no index; 'episode' is")


def test_runs_appended_to_one_file() -> None:
    course = course_of({"epoch": [0, 1, 2, 0, 1], "loss": [3.0, 2.0, 1.0, 9.0, 8.0], "val_loss": [3.0] * 5})
    assert [e.metrics["train_loss"] for e in course.epochs] == [9.0, 8.0]
    assert said(course, "'epoch' begins anew 1 time(s)")
    assert said(course, "only the last run was read, and 3 earlier rows were left out")
