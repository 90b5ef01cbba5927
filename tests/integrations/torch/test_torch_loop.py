"""FailGuard in a plain loop, with real models."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from failguard import TrainingFailure
from failguard.errors import ConfigurationError, FailGuardError

pytestmark = pytest.mark.framework

OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
}


def setup(kit, seed=5, optimizer="adamw", **kwargs):
    torch.manual_seed(seed)
    model = kit.model(**kwargs)
    return model, OPTIMIZERS[optimizer](model.parameters())


def finite(model):
    return all(bool(torch.isfinite(v).all()) for v in model.state_dict().values())


def hurt(kit):
    batches = kit.batches()
    batches[3][0][2, 1] = math.nan
    return batches


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_watching_is_bit_identical(kit, optimizer):
    found = []
    for watched in (False, True):
        model, opt = setup(kit, optimizer=optimizer)
        guard = kit.guard(model, opt, patience=9) if watched else None
        losses = kit.train(guard, model, opt, epochs=3, val=lambda e: 1.0 / (e + 1))
        if guard:
            guard.close()
            assert guard.report.status == "completed"
            assert guard.report.part_errors == []
        found.append((losses, model.state_dict(), opt.state_dict()["state"], torch.get_rng_state()))
    (l1, w1, o1, r1), (l2, w2, o2, r2) = found
    assert l1 == l2
    assert torch.equal(r1, r2)
    assert all(torch.equal(w1[k], w2[k]) for k in w1)
    assert all(torch.equal(o1[i][k], o2[i][k]) for i in o1 for k in o1[i] if isinstance(o1[i][k], torch.Tensor))


def test_a_healthy_run(kit):
    model, opt = setup(kit)
    with kit.guard(model, opt) as guard:
        losses = kit.train(guard, model, opt, val=lambda e: 1.0 / (e + 1))
        assert guard.report.status == "running"
    report = guard.report
    assert report.status == "completed"
    assert report.healthy
    assert (report.progress.steps, report.progress.epochs, report.progress.planned_steps) == (16, 2, None)
    assert [r["mean"] for r in report.history if r["name"] == "loss"] == pytest.approx(losses)
    assert [r["mean"] for r in report.history if r["name"] == "val_loss"] == [1.0, 0.5]
    assert (report.facts.framework, report.facts.batch_size, report.facts.loss_name) == ("torch", 16, "cross_entropy")
    assert report.facts.config["learning_rate"] == 1e-2
    assert report.facts.optimizer.name == "AdamW"


def test_a_corrupted_batch_is_dropped_and_named(kit):
    model, opt = setup(kit)
    with kit.guard(model, opt) as guard:
        kit.train(guard, model, opt, batches=hurt(kit))
    report = guard.report
    assert report.status == "stopped"
    assert report.progress.steps == 4
    found = next(f for f in report.findings if f.code == "loss.non_finite")
    assert (found.where.tensor, found.where.batch) == ("input", 3)
    assert report.diagnosis.likely_cause == "corrupted_batch"
    assert finite(model)


def test_the_update_is_kept_out_and_gradients_are_none(kit):
    model, opt = setup(kit, norm=False)
    batches = hurt(kit)
    guard = kit.guard(model, opt)
    kit.train(guard, model, opt, batches=batches[:3], epochs=1)
    before = copy.deepcopy(model.state_dict())
    opt.zero_grad()
    loss = F.cross_entropy(model(batches[3][0]), batches[3][1])
    loss.backward()
    assert guard.step(loss=loss, batch=batches[3]) is False
    assert guard.should_stop
    assert all(p.grad is None for p in model.parameters())
    opt.step()  # even then
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    guard.close()


def test_a_bad_gradient_with_a_fine_loss(kit):
    def loss_of(model, batch, step):
        logits = model(batch[0])
        if step == 5:
            logits.register_hook(lambda g: g * math.nan)
        return F.cross_entropy(logits, batch[1])

    model, opt = setup(kit)
    with kit.guard(model, opt) as guard:
        kit.train(guard, model, opt, loss_of=loss_of)
    assert guard.report.root.code == "gradient.non_finite"
    assert (guard.report.root.where.module, guard.report.root.where.tensor) == ("4", "gradient")
    assert finite(model)


def test_the_first_bad_module_is_named(kit):
    class Log(nn.Module):
        def forward(self, x):
            return torch.log(x)  # of negative numbers

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), Log(), nn.Linear(8, 3))
    opt = torch.optim.SGD(model.parameters(), 0.1)
    with kit.guard(model, opt) as guard:
        kit.train(guard, model, opt)
    assert (guard.report.root.where.module, guard.report.root.where.tensor) == ("1", "output")


def test_early_stopping_restores_the_best(kit):
    model, opt = setup(kit)
    kept = {}

    def val(epoch):
        kept[epoch] = copy.deepcopy(model.state_dict())
        return abs(epoch - 1.0)

    with kit.guard(model, opt, patience=2) as guard:
        kit.train(guard, model, opt, epochs=20, val=val)
    assert guard.report.root.code == "metric.no_improvement"
    assert guard.report.progress.epochs == 4
    assert all(torch.equal(kept[1][k], v) for k, v in model.state_dict().items())


def test_errors_are_recorded_and_raised_unchanged(kit):
    model, opt = setup(kit)
    guard = kit.guard(model, opt, raise_on_failure=True)
    error = ValueError("boom")

    def loss_of(*_):
        raise error

    with pytest.raises(ValueError, match="boom") as caught, guard:
        kit.train(guard, model, opt, loss_of=loss_of)
    assert caught.value is error
    assert guard.report.status == "failed"
    assert guard.report.exception.message == "boom"


def test_an_interrupt_is_recorded(kit):
    model, opt = setup(kit)
    with pytest.raises(KeyboardInterrupt), kit.guard(model, opt) as guard:
        raise KeyboardInterrupt
    assert guard.report.status == "interrupted"


def test_a_failure_can_be_raised(kit):
    model, opt = setup(kit)
    guard = kit.guard(model, opt, raise_on_failure=True)
    with pytest.raises(TrainingFailure) as caught, guard:
        kit.train(guard, model, opt, batches=hurt(kit))
    assert caught.value.report is guard.report


def test_without_with_it_starts_by_itself(kit):
    model, opt = setup(kit)
    guard = kit.guard(model, opt)
    with pytest.raises(FailGuardError):
        _ = guard.report
    assert not guard.should_stop
    kit.train(guard, model, opt, epochs=1)
    assert guard.report.status == "running"
    guard.close()
    guard.close()
    assert guard.report.status == "completed"


def test_a_second_run_starts_a_new_report(kit):
    model, opt = setup(kit)
    guard = kit.guard(model, opt)
    reports = []
    for batches in (hurt(kit), kit.batches()):
        with guard:
            kit.train(guard, model, opt, batches=batches, epochs=1)
        reports.append(guard.report)
    assert [r.status for r in reports] == ["stopped", "completed"]
    assert [r.progress.steps for r in reports] == [4, 8]
    assert not guard.should_stop


@pytest.mark.parametrize("loss", [None, "0.5", torch.ones(3), torch.tensor(1j)])
def test_a_loss_that_is_no_number_is_said_once(kit, loss, caplog):
    model, opt = setup(kit)
    with kit.guard(model, opt) as guard:
        for _ in range(4):
            assert guard.step(loss=loss)
        guard.end_epoch()
    assert guard.report.status == "completed"
    assert guard.report.part_errors == []
    (note,) = guard.report.notes
    assert "Reduce it first" in note
    assert len([r for r in caplog.records if "Reduce it first" in r.message]) == 1


@pytest.mark.parametrize(
    "loss", [0.5, torch.tensor(0.5), torch.tensor([0.5]), torch.tensor([[0.5]], dtype=torch.float16)]
)
def test_losses_of_every_usual_kind(kit, loss):
    model, opt = setup(kit)
    with kit.guard(model, opt) as guard:
        guard.step(loss)
    assert [r["mean"] for r in guard.report.history if r["name"] == "loss"] == [0.5]


def test_metrics_that_are_no_numbers_are_left_out(kit):
    model, opt = setup(kit)
    with kit.guard(model, opt) as guard:
        guard.end_epoch(val_loss=torch.tensor([0.5]), matrix=torch.ones(2, 2), name="x", accuracy=0.25)
    assert {r["name"] for r in guard.report.history if r["per"] == "epoch"} == {"val_loss", "accuracy"}
    assert len([note for note in guard.report.notes if "left out" in note]) == 2


def test_metrics_by_name_in_a_mapping_and_one_without_a_name(kit):
    model, opt = setup(kit)
    with kit.guard(model, opt) as guard:
        guard.end_epoch({"val/f1": 0.5}, val_loss=0.3)
        guard.end_epoch(0.3)
    assert {r["name"] for r in guard.report.history if r["per"] == "epoch"} == {"val/f1", "val_loss"}
    assert [note for note in guard.report.notes if "write end_epoch(val_loss=...)" in note]


def test_several_optimizers_make_one_update(kit):
    torch.manual_seed(0)
    model = kit.model(norm=False)
    opts = [torch.optim.SGD(model[0].parameters(), 0.1), torch.optim.Adam(model[4].parameters(), 0.1)]
    with kit.guard(model, opts) as guard:
        loss = F.cross_entropy(model(torch.randn(4, 8)), torch.tensor([0, 1, 2, 0]))
        loss.backward()
        model[4].bias.grad[0] = math.nan
        model[0].bias.grad[0] = math.nan
        assert not guard.step(loss)
    assert all(p.grad is None for p in model.parameters())


def test_lbfgs(kit):
    torch.manual_seed(0)
    model = kit.model(dropout=0.0, norm=False)
    opt = torch.optim.LBFGS(model.parameters(), lr=0.05)
    (x, y), *_ = kit.batches()

    def closure():
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    with kit.guard(model, opt) as guard:
        for _ in range(5):
            if guard.step(loss=closure(), batch=(x, y)):
                opt.step(closure)
    assert guard.report.status == "completed"
    assert guard.report.progress.steps == 5


def test_a_model_without_trainable_weights_is_said(kit):
    model = kit.model().requires_grad_(False)
    with kit.guard(model, None) as guard:
        guard.step(1.0)
    assert any("no trainable parameters" in n for n in guard.report.notes)


def test_a_scaler_skips_its_own_bad_steps(kit):
    model, opt = setup(kit, norm=False)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with kit.guard(model, opt, scaler) as guard:
        for step, (x, y) in enumerate(kit.batches()):
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            if step == 0:
                expected = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in model.parameters()])) / 4
            if step == 3:
                model[0].weight.grad.fill_(math.inf)
                model[0].bias.grad.fill_(math.inf)
            if guard.step(loss=loss, batch=(x, y)):
                scaler.step(opt)
                scaler.update()
    report = guard.report
    assert report.facts.loss_scaled
    assert report.status == "completed"
    assert [f for f in report.findings if f.severity != "info"] == []
    assert finite(model)
    norms = [r["mean"] for r in report.history if r["name"] == "gradient_norm"]
    assert norms[0] == pytest.approx(float(expected), rel=1e-5)


def test_a_loss_scale_that_collapses_is_named(kit):
    model, opt = setup(kit, norm=False)
    model[0].weight.register_hook(lambda g: g * math.inf)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14)
    with kit.guard(model, opt, scaler) as guard:
        for x, y in kit.batches(n=40):
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            if guard.step(loss=loss, batch=(x, y)):
                scaler.step(opt)
                scaler.update()
    report = guard.report
    assert (report.root.code, report.root.severity) == ("amp.scale_collapse", "error")
    assert report.diagnosis.causes[0].code == "mixed_precision_overflow"


def test_gradients_unscaled_for_clipping_are_not_unscaled_twice(kit):
    model, opt = setup(kit, norm=False)
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    (x, y), *_ = kit.batches()
    with kit.guard(model, opt, scaler) as guard:
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        scaler.unscale_(opt)
        expected = float(torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in model.parameters()])))
        guard.step(1.0)
    assert [r["mean"] for r in guard.report.history if r["name"] == "gradient_norm"] == [pytest.approx(expected)]


class Accelerated:
    """Like Accelerate's optimizer: wraps one, and knows the scaler."""

    def __init__(self, optimizer):
        self.optimizer, self.scaler = optimizer, None

    @property
    def param_groups(self):
        return self.optimizer.param_groups


def test_wrapped_optimizers_and_models(kit):
    model, opt = setup(kit)
    with kit.guard(torch.nn.DataParallel(model), Accelerated(opt)) as guard:
        kit.train(guard, model, opt)
    assert guard.report.facts.optimizer.name == "AdamW"
    assert guard.report.facts.model.name == "Sequential"
    assert guard.report.status == "completed"


@pytest.mark.parametrize(("model", "optimizer"), [(object(), None), (lambda x: x, None)])
def test_things_that_are_no_model(kit, model, optimizer):
    with pytest.raises(ConfigurationError, match=r"torch.nn.Module"):
        kit.FailGuard(model, optimizer)


def test_things_that_are_no_optimizer(kit):
    with pytest.raises(ConfigurationError, match="optimizer=float"):
        kit.FailGuard(kit.model(), 0.1)


@pytest.mark.parametrize(
    "keywords", [{"mode": "up"}, {"patience": -1}, {"policy": "recover"}, {"policy": {"loss.nan": "stop"}}]
)
def test_bad_keywords_fail_at_construction(kit, keywords):
    with pytest.raises(ConfigurationError):
        kit.FailGuard(kit.model(), None, **keywords)


def test_disabled_guards_do_nothing(kit, monkeypatch):
    monkeypatch.setenv("FAILGUARD_DISABLE", "1")
    model, opt = setup(kit)
    with kit.guard(model, opt) as guard:
        kit.train(guard, model, opt, batches=hurt(kit), epochs=1)
        assert not guard.should_stop
    assert not finite(model)


def test_a_guard_copies_and_pickles_before_the_run(kit):
    model, opt = setup(kit)
    guard = kit.guard(model, opt)
    assert copy.deepcopy(guard)._model is not model
    assert pickle.loads(pickle.dumps(guard)).settings.monitor == "val_loss"


def test_parts_that_raise_leave_the_loop_alone(kit, contained, monkeypatch):
    monkeypatch.setattr("failguard.torch.watch.StepWatch.before_update", lambda *a, **k: 1 / 0)
    found = []
    for watched in (False, True):
        model, opt = setup(kit)
        guard = kit.guard(model, opt) if watched else None
        kit.train(guard, model, opt)
        found.append(model.state_dict())
    guard.close()
    assert [e.part for e in guard.report.part_errors] == ["step"]
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])


def test_a_loop_without_batches_is_named(kit):
    with kit.guard(*setup(kit)) as guard:
        guard.end_epoch()
    assert any("No training batch was seen" in note for note in guard.report.notes)


def test_a_sample_costs_what_both_of_its_parts_take(kit, monkeypatch):
    from time import sleep

    from failguard.guard import Guard
    from failguard.torch.internals import InsideWatch

    costs, end = [], InsideWatch.end

    def slow_end(self):
        reading = end(self)
        if reading is not None:
            sleep(0.02)
        return reading

    monkeypatch.setattr(InsideWatch, "end", slow_end)
    monkeypatch.setattr(Guard, "record_internals", lambda self, reading, cost_s=0.0: costs.append(cost_s))
    model, opt = setup(kit)
    with kit.guard(model, opt) as guard:
        for _ in range(8):
            loss = F.cross_entropy(model(torch.randn(4, 8)), torch.tensor([0, 1, 2, 0]))
            opt.zero_grad()
            loss.backward()
            guard.step(loss)
            opt.step()
    assert costs
    assert min(costs) >= 0.02
