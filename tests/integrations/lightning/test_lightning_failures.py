"""Real failures in real fits: what is found, what is done, what is left."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytestmark = pytest.mark.framework


def finite(module):
    return all(bool(torch.isfinite(v).all()) for v in module.state_dict().values())


def codes(report):
    return [f.code for f in report.findings]


def hurt(kit, row=40):
    x, y = kit.data()
    x[row, 3] = math.nan
    return x, y


@pytest.mark.parametrize("kind", ["Net", "Manual"])
def test_a_corrupted_batch_stops_the_run_with_good_weights(kit, kind):
    x, y = hurt(kit)
    run = kit.fit(kit.guard(), getattr(kit, kind), x=x, y=y)
    report = run.report
    assert report.status == "stopped"
    assert report.root.code in ("data.non_finite", "loss.non_finite")
    assert "loss.non_finite" in codes(report)
    found = next(f for f in report.findings if f.code == "loss.non_finite")
    assert (found.step, found.where.tensor, found.where.batch) == (2, "input", 2)
    assert report.diagnosis.likely_cause == "corrupted_batch"
    assert report.progress.steps == 3
    assert report.progress.steps_saved == 13
    assert finite(run.module)
    assert {"stop", "drop_update"} <= {a.what for a in report.actions}


def test_the_dropped_update_leaves_weights_as_before_the_bad_batch(kit):
    x, y = hurt(kit)
    whole = kit.fit(kit.guard(), kit.Plain, x=x, y=y)
    before = kit.fit(None, kit.Plain, x=x, y=y, max_steps=2)
    assert all(torch.equal(a, b) for a, b in zip(whole.module.parameters(), before.module.parameters(), strict=True))


def test_under_accumulation_the_bad_batch_is_kept_out_too(kit):
    x, y = hurt(kit)
    run = kit.fit(kit.guard(), kit.Plain, x=x, y=y, accumulate_grad_batches=4)
    assert run.report.status == "stopped"
    assert run.report.progress.steps == 3
    assert finite(run.module)


@pytest.mark.parametrize(
    "clipping", [{}, {"gradient_clip_val": 0.5}, {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"}]
)
def test_a_bad_gradient_with_a_fine_loss(kit, clipping):
    run = kit.fit(kit.guard(), kit.Net(spoil_gradient_at=5), **clipping)
    report = run.report
    assert report.status == "stopped"
    assert report.root.code == "gradient.non_finite"
    assert report.root.step == 5
    assert report.root.where.tensor == "gradient"
    assert report.root.where.module == "net.4"
    assert finite(run.module)
    if clipping:
        assert run.trainer.gradient_clip_val == 0.5
        assert report.facts.optimizer.clipping == f"{clipping.get('gradient_clip_algorithm', 'norm')} 0.5"


def test_the_first_bad_module_is_named(kit):
    class Bad(kit.Plain):
        def __init__(self):
            super().__init__()
            scale = nn.Identity()
            scale.register_forward_hook(lambda m, a, out: out / 0 if self.seen >= 6 else out)
            self.net = nn.Sequential(nn.Linear(8, 16), scale, nn.Linear(16, 3))

    run = kit.fit(kit.guard(), Bad())
    assert run.report.root.code == "loss.non_finite"
    assert (run.report.root.where.module, run.report.root.where.tensor) == ("net.1", "output")


def test_a_bad_loss_of_good_outputs_is_named(kit):
    class Log(kit.Plain):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss if batch_idx < 4 else loss + torch.log(torch.zeros(()))

    where = kit.fit(kit.guard(), Log()).report.root.where
    assert (where.module, where.tensor, where.batch) == (None, "loss", 4)


def test_looking_again_does_not_show(kit):
    class Counting(kit.Net):
        calls = 0

        def training_step(self, batch, batch_idx):
            self.calls += 1
            self.log("calls", float(self.calls), on_step=True)
            loss = super().training_step(batch, batch_idx)
            return loss if batch_idx != 4 else loss * math.nan

    run = kit.fit(kit.guard(), Counting(), max_epochs=1)
    assert run.report.status == "stopped"
    assert run.module.calls == 5
    assert run.trainer.callback_metrics["calls"] == 5
    assert "log" not in vars(run.module)


def test_observing_changes_nothing(kit):
    x, y = hurt(kit)
    observed = kit.fit(kit.guard(policy="observe"), x=x, y=y)
    bare = kit.fit(None, x=x, y=y)
    assert "loss.non_finite" in codes(observed.report)
    assert observed.report.progress.steps == 16
    assert not finite(observed.module)
    for a, b in zip(observed.module.state_dict().values(), bare.module.state_dict().values(), strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num())


def test_a_rate_far_too_high_is_found(kit):
    x, y = kit.data(512)
    run = kit.fit(kit.guard(), kit.Plain(lr=1e4, optimizer="SGD"), x=x, y=y, max_epochs=6)
    assert run.report.status == "stopped"
    assert run.report.root.code in ("loss.divergence", "loss.non_finite", "gradient.non_finite")
    assert run.report.diagnosis.likely_cause == "learning_rate_too_high"
    assert run.report.facts.optimizer.learning_rate == 1e4


def test_weights_that_cannot_be_saved_are_said_to_be_bad(kit):
    class Poison(kit.L.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            if trainer.global_step == 4:
                module.net[0].weight.data[0, 0] = math.nan

    run = kit.fit(kit.guard(), kit.Plain, callbacks=[Poison()])
    assert run.report.status == "failed"
    assert any("net.0.weight" in n for n in run.report.notes)


def test_best_weights_come_back_after_early_stopping(kit):
    class Ruin(kit.Plain):
        """Validation is best after epoch 1."""

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", abs(float(self.current_epoch) - 1.0))
            if batch_idx == 0:
                self.kept = {**getattr(self, "kept", {}), self.current_epoch: self.net[0].weight.detach().clone()}

    run = kit.fit(kit.guard(monitor="val_loss", patience=2), Ruin(), max_epochs=20)
    report = run.report
    assert report.status == "stopped"
    assert report.root.code == "metric.no_improvement"
    assert report.progress.epochs == 4
    assert report.best["epoch"] == 1
    assert torch.equal(run.module.net[0].weight, run.module.kept[1])
    assert "restore_best_weights" in {a.what for a in report.actions}


def test_patience_counts_validated_epochs_only(kit):
    class Worse(kit.Plain):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", float(self.current_epoch))

    run = kit.fit(kit.guard(patience=2), Worse(), max_epochs=20, min_epochs=6, check_val_every_n_epoch=2)
    assert not any("min_epochs" in n for n in run.report.notes)  # six epochs are done when it stops: nothing waits
    assert run.report.best["epoch"] == 1
    assert run.report.progress.epochs == 6  # validated after epochs 1, 3 and 5


def test_min_epochs_is_respected_and_said(kit):
    x, y = hurt(kit)
    run = kit.fit(kit.guard(), x=x, y=y, min_epochs=2, max_epochs=4)
    assert run.trainer.current_epoch == 2
    assert any("min_epochs=2" in n for n in run.report.notes)
    assert finite(run.module)  # bad updates were kept out until the end


@pytest.mark.parametrize(("error", "status"), [(ValueError("boom 17"), "failed"), (KeyboardInterrupt(), "interrupted")])
@pytest.mark.parametrize("where", ["training_step", "validation_step", "setup", "on_train_epoch_end"])
def test_errors_are_recorded_and_raised_unchanged(kit, error, status, where):
    class Raises(kit.Plain):
        pass

    def raises(self, *args, **kwargs):
        raise error

    setattr(Raises, where, raises)
    guard = kit.guard()
    with pytest.raises(SystemExit if status == "interrupted" else ValueError) as caught:
        kit.fit(guard, Raises())
    if status == "failed":
        assert caught.value is error
    report = guard.report
    assert report.status == status
    assert report.exception.type_name == type(error).__name__
    assert codes(report)[-1] == ("run.interrupted" if status == "interrupted" else "run.exception")
    assert guard._guard is None


def test_a_failure_can_be_raised_once_all_is_shut_down(kit):
    from failguard import TrainingFailure

    x, y = hurt(kit)
    guard = kit.guard(raise_on_failure=True)
    with pytest.raises(TrainingFailure) as caught:
        kit.fit(guard, x=x, y=y)
    assert caught.value.report is guard.report
    assert guard.report.status == "stopped"
    assert guard.report.exception is None


def test_a_loss_scale_that_collapses_is_named(kit):
    class Overflowing(kit.Plain):
        def training_step(self, batch, batch_idx):
            x, y = batch
            logits = self.net(x)
            logits.register_hook(lambda g: g * math.inf)
            return F.cross_entropy(logits, y)

    from lightning.pytorch.plugins import MixedPrecision

    plugin = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    report = kit.fit(kit.guard(), Overflowing(), plugins=[plugin], max_epochs=3).report
    assert report.root.code == "amp.scale_collapse"
    assert report.diagnosis.causes[0].code == "mixed_precision_overflow"


def test_mixed_precision_overflow_is_left_to_the_scaler(kit):
    class Scaled(kit.Plain):
        def training_step(self, batch, batch_idx):
            x, y = batch
            logits = self.net(x)
            if batch_idx == 3 and self.current_epoch == 0:
                logits.register_hook(lambda g: g * math.inf)
            return F.cross_entropy(logits, y)

    from lightning.pytorch.plugins import MixedPrecision

    plugin = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    run = kit.fit(kit.guard(), Scaled(), plugins=[plugin])
    report = run.report
    assert report.facts.loss_scaled
    assert report.status == "completed"
    assert [(f.code, f.severity) for f in report.findings] in ([], [("gradient.non_finite", "info")])
    assert finite(run.module)
    losses = [r for r in report.history if r["name"] == "loss"]
    assert 0.1 < losses[0]["mean"] < 5  # unscaled
