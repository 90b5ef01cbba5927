"""Where a guard begins and ends, and what it does not touch."""

import copy
import logging
import math
import pickle

import pytest
import torch

from failguard.errors import FailGuardError

pytestmark = pytest.mark.framework


def names(report):
    return {row["name"] for row in report.history}


def test_a_healthy_fit(kit):
    guard = kit.guard(config={"password": "s3cret", "depth": 2})
    report = kit.fit(guard, max_epochs=3).report
    assert report.status == "completed"
    assert report.healthy
    assert report.findings == []
    assert report.notes == []
    assert (report.progress.steps, report.progress.optimizer_steps, report.progress.epochs) == (24, 24, 3)
    assert report.progress.planned_steps == 24
    assert {"loss", "gradient_norm", "step_s", "train_loss", "train_ce", "val_loss"} <= names(report)
    facts = report.facts
    assert (facts.framework, facts.batch_size, facts.train_samples, facts.validation_samples) == (
        "lightning",
        16,
        128,
        128,
    )
    assert (facts.steps_per_epoch, facts.max_epochs, facts.device, facts.world_size) == (8, 3, "cpu", 1)
    assert facts.loss_name == "cross_entropy"
    assert 0.8 < facts.trivial_loss < math.log(3)
    assert (facts.optimizer.name, facts.optimizer.learning_rate) == ("AdamW", 1e-2)
    assert (facts.model.dropout, facts.model.output_width) == (0.2, 3)
    assert facts.config["depth"] == 2
    assert "s3cret" not in str(report.to_dict())


def test_hyperparameters_are_the_configuration(kit):
    class Data(kit.L.LightningDataModule):
        def __init__(self, folds=5):
            super().__init__()
            self.save_hyperparameters()

        def train_dataloader(self):
            return kit.loader(*kit.data())

    guard = kit.guard()
    kit.trainer(guard, max_epochs=1).fit(kit.Net(lr=0.02), datamodule=Data())
    assert guard.report.facts.config == {"folds": 5, "lr": 0.02, "optimizer": "AdamW", "spoil_gradient_at": None}


def test_losses_and_metrics_are_the_true_ones(kit):
    class Remember(kit.Plain):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.losses = [*getattr(self, "losses", []), float(loss)]
            return loss

    run = kit.fit(kit.guard(), Remember(), accumulate_grad_batches=4)
    rows = [r for r in run.report.history if r["name"] == "loss"]
    assert [r["mean"] for r in rows] == pytest.approx(run.module.losses, rel=1e-6)
    assert run.report.progress.optimizer_steps == 4
    counts = run.report.facts.class_counts.values()
    prior = -sum(n / sum(counts) * math.log(n / sum(counts)) for n in counts)
    assert run.report.facts.trivial_loss == pytest.approx(prior)  # of the loss before Lightning divides it
    epochs = [r["mean"] for r in run.report.history if r["name"] == "train_loss"]
    assert epochs == pytest.approx([sum(run.module.losses[i : i + 8]) / 8 for i in (0, 8)], rel=1e-6)


def test_metrics_of_an_epoch_without_validation_are_not_repeated(kit):
    report = kit.fit(kit.guard(), max_epochs=4, check_val_every_n_epoch=2).report
    assert [r["start"] for r in report.history if r["name"] == "val_loss"] == [1, 3]
    assert [r["start"] for r in report.history if r["name"] == "train_ce"] == [0, 1, 2, 3]


def test_of_several_validations_the_last_counts(kit):
    class Counting(kit.Plain):
        validations = 0

        def on_validation_epoch_end(self):
            if not self.trainer.sanity_checking:
                Counting.validations += 1
            self.log("val_loss", float(Counting.validations))

        def validation_step(self, batch, batch_idx):
            pass

    report = kit.fit(kit.guard(), Counting(), val_check_interval=0.25).report
    assert [r["mean"] for r in report.history if r["name"] == "val_loss"] == [4.0, 8.0]


def test_a_metric_logged_at_the_end_of_the_epoch_belongs_to_it(kit):
    class Late(kit.Plain):
        def on_train_epoch_end(self):
            self.log("score", float(self.current_epoch))

    report = kit.fit(kit.guard(monitor="score", mode="max", patience=5), Late(), max_epochs=3).report
    assert [(r["start"], r["mean"]) for r in report.history if r["name"] == "score"] == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert report.best["epoch"] == 2
    assert report.notes == []
    assert report.progress.epochs == 3


def test_a_late_metric_can_stop_the_run(kit):
    class Late(kit.Plain):
        def on_train_epoch_end(self):
            self.log("score", -float(self.current_epoch))

    run = kit.fit(kit.guard(monitor="score", mode="max", patience=2), Late(), max_epochs=9, val=False)
    assert run.report.root.code == "metric.no_improvement"
    assert run.report.progress.epochs == 3
    assert run.report.progress.steps == 24


def test_a_monitor_that_never_appears_is_named_with_those_that_exist(kit):
    report = kit.fit(kit.guard(monitor="val_acc", mode="max", patience=1)).report
    assert report.status == "completed"
    (note,) = report.notes
    assert "val_acc" in note
    assert "val_loss" in note


def test_an_empty_loader_is_said(kit):
    guard = kit.guard()
    kit.trainer(guard).fit(kit.Net(), kit.loader(torch.zeros(0, 8), torch.zeros(0).long()))
    assert guard.report.progress.steps == 0
    assert any("No training batch" in n for n in guard.report.notes)


def test_nothing_to_train_is_said(kit):
    class Frozen(kit.Plain):
        def __init__(self):
            super().__init__()
            self.requires_grad_(False)

        def training_step(self, batch, batch_idx):
            return None

    report = kit.fit(kit.guard(), Frozen()).report
    assert report.status == "completed"
    assert any("no trainable parameters" in n for n in report.notes)


def test_validate_test_and_predict_are_left_alone(kit):
    guard = kit.guard()
    trainer = kit.trainer(guard)
    trainer.validate(kit.Net(), kit.loader(*kit.data()), verbose=False)
    with pytest.raises(FailGuardError, match="no report yet"):
        _ = guard.report
    run = kit.fit(guard)
    report = guard.report
    run.trainer.validate(run.module, kit.loader(*kit.data()), verbose=False)
    assert guard.report is report


@pytest.mark.parametrize(
    "kwargs",
    [
        {"fast_dev_run": True},
        {"overfit_batches": 2},
        {"limit_train_batches": 3},
        {"max_steps": 5},
        {"barebones": True},
        {"num_sanity_val_steps": 0},
    ],
)
def test_trainer_settings(kit, kwargs):
    report = kit.fit(
        kit.guard(),
        **(
            {
                **kwargs,
                **dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")),
            }
            if "barebones" in kwargs
            else kwargs
        ),
    ).report
    assert report.status == "completed"
    assert report.part_errors == []
    assert report.progress.steps == report.progress.planned_steps or "barebones" in kwargs


def test_a_second_fit_starts_a_new_report(kit, caplog):
    guard = kit.guard()
    first = kit.fit(guard).report
    with caplog.at_level(logging.INFO, "failguard"):
        second = kit.fit(guard, max_epochs=1).report
    assert first is not second
    assert first.run.record_id != second.run.record_id
    assert second.progress.steps == 8
    assert [r.message for r in caplog.records if "new report" in r.message]


def test_two_guards_on_one_trainer(kit, caplog):
    first, second = kit.guard(), kit.guard()
    run = kit.fit(first, callbacks=[second])
    assert run.report.status == "completed"
    assert run.report.progress.steps == 16
    assert any("only the first one watches" in r.message and "Keep one" in r.message for r in caplog.records)
    with pytest.raises(FailGuardError):
        _ = second.report


def test_one_guard_twice_on_a_trainer_watches_once(kit, caplog):
    guard = kit.guard()
    run = kit.fit(guard, callbacks=[guard])
    assert run.report.progress.steps == 16
    assert any("more than once" in r.message for r in caplog.records)


def test_a_guard_copies_and_pickles_before_and_after_a_fit(kit):
    guard = kit.guard(patience=3)
    for other in (copy.deepcopy(guard), pickle.loads(pickle.dumps(guard))):
        assert kit.fit(other).report.status == "completed"
    kit.fit(guard)
    del guard.log, guard.log_dict  # Lightning's, which hold the module
    assert pickle.loads(pickle.dumps(guard)).report.status == "completed"


def test_it_holds_on_to_nothing_after_the_fit(kit):
    guard = kit.guard()
    kit.fit(guard)
    assert guard._trainer is None
    assert guard._module is None
    assert guard._watch is None


def test_disabled_guards_do_nothing(kit, monkeypatch):
    monkeypatch.setenv("FAILGUARD_DISABLE", "1")
    guard = kit.guard()
    x, y = kit.data()
    x[40] = math.nan
    run = kit.fit(guard, x=x, y=y)
    assert run.trainer.global_step == 16
    assert any("FAILGUARD_DISABLE" in n for n in guard.report.notes)


def test_the_learning_rate_finder_is_no_run(kit):
    from lightning.pytorch.tuner import Tuner

    guard = kit.guard()
    trainer = kit.trainer(guard)
    module = kit.Net()
    Tuner(trainer).lr_find(module, kit.loader(*kit.data()), num_training=5, update_attr=False)
    with pytest.raises(FailGuardError, match="no report yet"):
        _ = guard.report
    trainer.fit(module, kit.loader(*kit.data()))
    assert guard.report.status == "completed"
    assert guard.report.progress.steps == 16


def test_a_resumed_run_carries_the_state(kit, tmp_path):
    first = kit.fit(kit.guard(patience=9), max_epochs=2)
    first.trainer.save_checkpoint(tmp_path / "a.ckpt")
    resumed = kit.fit(kit.guard(patience=9), max_epochs=4, ckpt_path=tmp_path / "a.ckpt").report
    whole = kit.fit(kit.guard(patience=9), max_epochs=4).report
    assert resumed.run.resumed
    assert not whole.run.resumed
    assert resumed.progress.steps == whole.progress.steps == 32
    assert resumed.progress.epochs == 4

    def starts(report, name):
        return [r["start"] for r in report.history if r["name"] == name]

    assert starts(resumed, "loss") == starts(whole, "loss")
    assert starts(resumed, "val_loss") == [0, 1, 2, 3]


def test_patience_goes_on_after_a_resume(kit, tmp_path):
    class Worse(kit.Plain):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", float(self.current_epoch))

    first = kit.fit(kit.guard(patience=3), Worse(), max_epochs=2)
    first.trainer.save_checkpoint(tmp_path / "a.ckpt")
    report = kit.fit(kit.guard(patience=3), Worse(), max_epochs=9, ckpt_path=tmp_path / "a.ckpt").report
    assert report.root.code == "metric.no_improvement"
    assert report.progress.epochs == 4
    assert report.best["epoch"] == 0


def test_a_checkpoint_between_validation_and_epoch_end_loses_no_metric(kit, tmp_path):
    class Save(kit.L.Callback):
        def on_validation_end(self, trainer, module):
            if not trainer.sanity_checking and trainer.current_epoch == 1:
                trainer.save_checkpoint(tmp_path / "mid.ckpt")

    kit.fit(kit.guard(), callbacks=[Save()])
    report = kit.fit(kit.guard(), max_epochs=3, ckpt_path=tmp_path / "mid.ckpt").report
    assert [r["start"] for r in report.history if r["name"] == "val_loss"] == [0, 1, 2]
    assert report.progress.steps == 24


def test_a_checkpoint_of_an_unwatched_run_resumes_too(kit, tmp_path):
    first = kit.fit(None)
    first.trainer.save_checkpoint(tmp_path / "a.ckpt")
    report = kit.fit(kit.guard(), max_epochs=4, ckpt_path=tmp_path / "a.ckpt").report
    assert report.status == "completed"
    assert not report.run.resumed


# Containment


class Broken:
    code = "loss.spike"
    TRIPS = QUIET = ()

    def check(self, observation, history):
        raise RuntimeError("detector broke")


class BrokenSink:
    name, background = "mine", False

    def start(self, report):
        raise RuntimeError("sink broke")

    progress = finish = start


def test_parts_that_raise_leave_training_untouched_and_are_named(kit, contained):
    guard = kit.guard(detectors=[Broken()], sinks=[BrokenSink()])
    watched, bare = kit.fit(guard), kit.fit(None)
    named = " ".join(f"{e.part}: {e.message}" for e in watched.report.part_errors)
    assert "detector loss.spike" in named
    assert "detector broke" in named
    assert "sink broke" in named
    for a, b in zip(watched.module.parameters(), bare.module.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("broken", ["begin_batch", "before_update", "end_batch", "settle", "start_epoch", "start"])
def test_a_hook_that_raises_is_retired(kit, contained, monkeypatch, broken):
    from failguard.torch.watch import StepWatch

    if broken == "begin_batch":
        monkeypatch.setattr("failguard.torch.batches.BatchReader.read", lambda *a: 1 / 0)
    else:
        monkeypatch.setattr(StepWatch, broken, lambda *a, **k: 1 / 0)
    watched, bare = kit.fit(kit.guard()), kit.fit(None)
    assert any("ZeroDivisionError" in e.message for e in watched.report.part_errors)
    assert watched.report.notes == []
    for a, b in zip(watched.module.parameters(), bare.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_guard_that_cannot_be_set_up_leaves_training_alone(kit, contained, monkeypatch, caplog):
    monkeypatch.setattr("failguard.lightning.callback.StepWatch", lambda *a, **k: 1 / 0)
    assert kit.fit(kit.guard()).trainer.global_step == 16
    assert any("setting up the guard failed" in r.message for r in caplog.records)


def test_a_sampler_that_raises_is_retired(kit, contained, monkeypatch):
    monkeypatch.setattr("failguard.resources.run_watch.Sampler.start", lambda self: 1 / 0)
    report = kit.fit(kit.guard(resources=True)).report
    assert report.status == "completed"
    assert any("sampler" in e.part for e in report.part_errors)
