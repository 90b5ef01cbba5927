"""The step watch with a guard that only takes notes, on the CPU and as on a device."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from failguard.accounting import Accounting
from failguard.core.containment import Containment
from failguard.core.decision import Action, Decision
from failguard.core.facts import Facts, ModelFacts
from failguard.core.finding import Finding, Severity
from failguard.torch import FailGuard
from failguard.torch.device import DeviceStepWatch
from failguard.torch.readback import Readback
from failguard.torch.watch import StepWatch, drop_gradients

pytestmark = pytest.mark.framework


class Notes:
    """Stands in for the guard."""

    def __init__(self, *, due=False):
        self.settings = SimpleNamespace(check_data=True, detectors="minimal")
        self.containment, self.accounting = Containment(), Accounting(0.01)
        self.step = self.epoch = self.optimizer_steps = 0
        self.gradient_due = due
        self.typical_step_s = 0.0
        self.should_stop = False
        self.losses, self.norms, self.checked, self.notes, self.found = [], [], [], [], []
        self.allowed = True

    def record_loss(self, loss):
        self.losses.append((self.step, loss))

    def record_fine_batch(self, loss):
        self.losses.append((self.step, loss))
        self.optimizer_steps += 1

    def end_quiet_batch(self):
        return False

    def record_gradient(self, norm, cost_s=0.0):
        self.norms.append((self.step, norm))

    def check_gradient(self, norm):
        if not math.isfinite(norm):
            self.checked.append(self.step)

    def allow_update(self):
        self.optimizer_steps += 1
        return self.allowed

    def end_batch(self, step_s=None):
        self.step += 1

    def start_epoch(self, epoch):
        self.epoch = epoch

    def note(self, remark):
        self.notes.append(remark)

    def report_data(self, finding):
        self.found.append(finding)


class Event:
    """Passes when one more was recorded after it, as on a device that lags by a step."""

    recorded = 0

    def record(self):
        Event.recorded += 1
        self.mine, self.waited = Event.recorded, False

    def query(self):
        return self.waited or Event.recorded > self.mine

    def synchronize(self):
        self.waited = True


def setup(kind=StepWatch, *, due=False, model=None, **kwargs):
    model = model or nn.Linear(3, 1)
    guard = Notes(due=due)
    stops = []
    watch = kind(model, stop=stops.append, **kwargs)
    watch.start(guard, Facts(model=ModelFacts()))
    opt = torch.optim.SGD(model.parameters(), 0.1)
    return SimpleNamespace(model=model, guard=guard, watch=watch, stops=stops, opt=opt, quick=0)


def batch(run, x, scale=1.0, gradient_scale=1.0, **kwargs):
    run.opt.zero_grad()
    loss = run.model(x).mean() * scale
    run.watch.begin_batch((x,))
    run.watch.see_loss(loss)
    loss.backward()
    quick = run.watch.all_fine(run.opt, kwargs.get("factor", 1))
    run.quick += quick
    allowed = quick or run.watch.before_update(run.opt, scale=gradient_scale, **kwargs)
    run.watch.end_batch(factor=kwargs.get("factor", 1.0))
    return loss.item(), allowed


def test_losses_reach_the_guard_before_the_update():
    run = setup()
    values = [batch(run, torch.randn(4, 3))[0] for _ in range(3)]
    assert run.guard.losses == list(enumerate(values))
    assert run.guard.norms == []
    assert run.guard.optimizer_steps == 3


def test_a_quick_look_is_enough_between_full_ones():
    run = setup(in_step=True)
    for _ in range(40):
        batch(run, torch.randn(4, 3))
    assert run.quick == 38  # all but steps 0 and 32
    assert run.guard.step == run.guard.optimizer_steps == len(run.guard.losses) == 40


@pytest.mark.parametrize(
    "what", ["bad loss", "bad gradient", "no gradient", "other optimizer", "stopping", "new epoch"]
)
def test_a_quick_look_leaves_anything_unusual_to_the_full_one(what):
    run = setup(in_step=True)
    for _ in range(3):
        batch(run, torch.randn(4, 3))
    before = run.guard.losses[:]
    optimizer = run.opt
    run.opt.zero_grad()
    loss = run.model(torch.randn(4, 3)).mean()
    loss.backward()
    run.watch.begin_batch(None)
    run.watch.see_loss(loss * math.nan if what == "bad loss" else loss)
    if what == "bad gradient":
        run.model.bias.grad.fill_(math.inf)
    elif what == "no gradient":
        run.opt.zero_grad()
    elif what == "other optimizer":
        optimizer = torch.optim.SGD(run.model.parameters(), 0.1)
    elif what == "stopping":
        run.guard.should_stop = True
    elif what == "new epoch":
        run.watch.start_epoch(1)
    assert not run.watch.all_fine(optimizer, 1)
    assert run.guard.losses == before
    run.watch.before_update(optimizer)
    assert len(run.guard.losses) == 4


def test_division_for_accumulation_is_undone():
    run = setup()
    value, _ = batch(run, torch.randn(4, 3), scale=0.25, factor=4)
    assert run.guard.losses[0][1] == pytest.approx(4 * value)


def test_full_norms_are_taken_when_due_and_unscaled():
    run = setup(due=True)
    x = torch.randn(4, 3)
    batch(run, x, 8.0, gradient_scale=8.0)
    expected = torch.linalg.vector_norm(torch.cat([x.mean(0), torch.ones(1)]))
    assert run.guard.norms[0][1] == pytest.approx(float(expected), rel=1e-5)


def test_ranks_take_norms_at_the_same_steps():
    run = setup(in_step=True)
    for _ in range(33):
        batch(run, torch.randn(4, 3))
    assert [step for step, _ in run.guard.norms] == [0, 32]


def test_the_sentinel_sees_what_backward_made():
    run = setup()
    batch(run, torch.randn(4, 3))
    batch(run, torch.full((4, 3), math.inf))
    assert run.guard.checked == [] or run.guard.checked == [1]
    assert not math.isfinite(run.guard.losses[1][1])
    batch(run, torch.randn(4, 3), scale=math.nan)
    assert 2 in run.guard.checked


def test_of_several_losses_the_first_counts_unless_one_is_bad():
    run = setup()
    run.watch.begin_batch(None)
    for loss in (1.0, 2.0, math.nan):
        run.watch.see_loss(loss)
        run.watch.before_update(run.opt)
    run.watch.end_batch()
    assert next(v for _, v in run.guard.losses) == 1.0
    assert len(run.guard.losses) == 2
    assert math.isnan(run.guard.losses[1][1])


def test_evaluations_of_one_update_count_once():
    run = setup()
    run.watch.begin_batch(None)
    for _ in range(5):
        run.watch.see_loss(1.0)
        run.watch.before_update(run.opt, once_per_batch=True)
    assert run.guard.optimizer_steps == 1
    run.watch.see_loss(math.nan)
    run.watch.before_update(run.opt, once_per_batch=True)
    assert run.guard.optimizer_steps == 2  # looked at again


@pytest.mark.parametrize("loss", [None, "0.1", torch.ones(3), 1j])
def test_a_loss_that_is_none_is_said_and_training_goes_on(loss):
    run = setup()
    run.watch.begin_batch(None)
    run.watch.see_loss(loss)
    assert run.watch.before_update(run.opt)
    run.watch.end_batch()
    assert run.guard.losses == []
    assert loss is None or "not one real number" in run.guard.notes[0]
    assert run.guard.step == 1


def test_dropping_is_none_not_zero():
    run = setup()
    run.model(torch.randn(4, 3)).mean().backward()
    drop_gradients(run.opt)
    assert all(p.grad is None for p in run.model.parameters())


def test_a_broken_look_at_batches_is_retired(contained):
    run = setup()
    run.watch._reader.read = lambda *a: 1 / 0
    for _ in range(3):
        batch(run, torch.randn(4, 3))
    assert [e.part for e in run.guard.containment.errors] == ["looking at batches"]
    assert len(run.guard.losses) == 3


def decision(code="loss.non_finite"):
    return Decision(Action.STOP, "because", Finding(code, Severity.ERROR, 0, 0, ""))


def test_a_stop_mends_running_statistics_and_asks_for_the_end():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    run = setup(model=model)
    batch(run, torch.randn(4, 3))
    batch(run, torch.full((4, 3), math.nan))
    assert run.watch.non_finite_weights() == ["1.running_mean", "1.running_var"]
    run.watch.apply(decision())
    assert run.watch.non_finite_weights() == []
    assert len(run.stops) == 1
    assert "1.running_mean" in run.guard.notes[0]


def test_data_findings_go_to_the_guard():
    run = setup()
    batch(run, torch.full((4, 3), math.nan))
    assert [f.code for f in run.guard.found] == ["data.non_finite"]


@pytest.mark.parametrize(
    ("value", "code"), [(math.nan, "data.non_finite"), (1e7, "data.outliers"), (30.0, None)], ids=["nan", "far", "fine"]
)
def test_a_batch_that_was_passed_over_is_looked_at_when_its_loss_is_absurd(value, code):
    run = setup()
    for _ in range(60):
        batch(run, torch.randn(8, 3))
    assert run.watch._reader.next_at > run.guard.step  # the next batch would not be read
    with torch.no_grad():
        run.model.weight.fill_(0.5)
    x = torch.randn(8, 3)
    x[5, 1] = value
    batch(run, x)
    assert [(f.code, f.step, f.where.rows) for f in run.guard.found] == ([(code, 60, (5,))] if code else [])


def test_a_loss_that_stays_high_is_looked_at_once():
    run = setup()
    looks = []
    look_at = run.watch._reader.look_at
    run.watch._reader.look_at = lambda *args: looks.append(args[1]) or look_at(*args)
    for step in range(60):
        batch(run, torch.randn(4, 3), scale=1e4 if step >= 40 else 1.0)
    assert len(looks) <= 2
    assert run.guard.found == []


def test_a_loop_that_never_leaves_eval_mode_is_seen_in_its_first_epoch():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)).eval()
    with FailGuard(model, opt := torch.optim.SGD(model.parameters(), 0.1), sinks=[], memory=False) as guard:
        for _ in range(5):
            opt.zero_grad()
            loss = model(torch.randn(8, 3)).square().mean()
            loss.backward()
            if guard.step(loss=loss):
                opt.step()
    assert "model.wrong_mode" in [f.code for f in guard.report.findings]


# As on an accelerator


def device(**kwargs):
    return setup(DeviceStepWatch, readback=Readback(event=Event, pinned=False), **kwargs)


def test_on_a_device_numbers_come_late_with_their_own_step():
    run = device()
    values = [batch(run, torch.randn(4, 3))[0] for _ in range(6)]
    late = len(run.guard.losses)
    assert 0 < late < 6
    run.watch.settle()
    assert run.guard.losses == [(i, pytest.approx(v)) for i, v in enumerate(values)]
    assert run.guard.step == run.guard.optimizer_steps == 6
    assert next(s for s, _ in run.guard.norms) == 0
    assert len(run.guard.norms) < 6


def test_on_a_device_a_batch_without_a_loss_still_counts():
    run = device()
    for _ in range(3):
        run.watch.begin_batch(None)
        run.watch.end_batch()
    run.watch.settle()
    assert run.guard.losses == []
    assert run.guard.step == 3
    assert run.guard.optimizer_steps == 0


def test_on_a_device_bad_gradients_are_seen_within_two_steps():
    run = device()
    for i in range(6):
        batch(run, torch.randn(4, 3), scale=math.nan if i == 2 else 1.0)
        if run.guard.checked:
            break
    assert run.guard.checked == [2]
    assert i <= 4


def test_on_a_device_the_failing_batch_is_still_at_hand():
    run = device()
    seen = []
    run.guard.end_batch = lambda step_s=None: (
        seen.append(run.watch._kept(run.guard.step)[0]),
        setattr(run.guard, "step", run.guard.step + 1),
    )
    batches = [torch.randn(4, 3) for _ in range(5)]
    for x in batches:
        batch(run, x)
    run.watch.settle()
    assert any(s is not None and s[0] is batches[i] for i, s in enumerate(seen))
    assert len(run.watch._late) <= 2
