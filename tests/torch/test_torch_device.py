"""A loop with an accelerator that lags behind it, played on the CPU."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from failguard.torch import FailGuard
from failguard.torch.device import DeviceStepWatch
from failguard.torch.readback import Readback

pytestmark = pytest.mark.framework

LAG = 4  # steps


class Device:
    """Events pass when ``LAG`` more were recorded after them."""

    def __init__(self):
        self.recorded = 0
        self.broken = False

    def event(self):
        return Event(self)


class Event:
    def __init__(self, device):
        self.device = device

    def record(self):
        self.device.recorded += 1
        self.mine, self.waited = self.device.recorded, False

    def query(self):
        if self.device.broken:
            raise RuntimeError("CUDA error: device-side assert triggered\nCompile with ...")
        return self.waited or self.device.recorded >= self.mine + LAG

    def synchronize(self):
        self.query()
        self.waited = True


@pytest.fixture
def device(monkeypatch):
    device = Device()

    def watch(*args, **kwargs):
        return DeviceStepWatch(*args, readback=Readback(event=device.event, pinned=False), **kwargs)

    monkeypatch.setattr("failguard.torch.callback.StepWatch", watch)
    return device


def batches(n):
    g = torch.Generator().manual_seed(0)
    return [(torch.randn(16, 8, generator=g), torch.randint(0, 3, (16,), generator=g)) for _ in range(n)]


def run(data, loss_of=None, model=None, at=None, **keywords):
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    with FailGuard(model, optimizer, **{"sinks": [], "resources": False, **keywords}) as guard:
        for step, (x, y) in enumerate(data):
            if at is not None:
                at(step, model)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            if guard.step(loss=loss_of(loss, step) if loss_of else loss, batch=(x, y)):
                optimizer.step()
            if guard.should_stop:
                break
    return guard.report


def losses(report):
    return [r["mean"] for r in report.history if r["name"] == "loss"]


def test_every_number_comes_with_its_step(device):
    report = run(batches(20))
    assert report.status == "completed"
    assert report.progress.steps == report.progress.optimizer_steps == len(losses(report)) == 20
    assert report.part_errors == []


def test_a_loss_that_is_a_plain_number_counts(device):
    assert losses(run(batches(8), lambda loss, step: loss.item())) == pytest.approx(losses(run(batches(8))))


def test_a_bad_batch_is_named_although_later_ones_were_trained_on(device):
    data = batches(20)
    data[6][0][3, 2] = math.nan
    report = run(data)
    assert (report.root.code, report.root.step) == ("data.non_finite", 6)
    assert (report.root.where.tensor, report.root.where.batch) == ("input", 6)
    assert report.progress.steps <= 6 + LAG + 1
    assert report.status == "failed"  # the update could not be dropped, and no good weights were kept
    assert any("weights are not finite" in n for n in report.notes)


def test_weights_that_a_bad_step_has_spoiled_are_not_its_place(device):
    def spoil(step, model):
        if step == 6:
            model[2].weight.register_hook(lambda g: g * math.nan)
            model[0].bias.register_hook(lambda g: g * math.nan)

    report = run(batches(20), at=spoil)
    assert report.root.code == "gradient.non_finite"
    assert (report.root.where.module, report.root.where.tensor, report.root.where.batch) == (None, "gradient", 6)


def test_weights_that_were_bad_at_the_start_are_named(device):
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    with torch.no_grad():
        model[2].weight[1, 1] = math.nan
    where = run(batches(20), model=model).root.where
    assert (where.module, where.tensor) == ("2", "weight")


def test_steps_that_arrive_together_share_their_time(device, monkeypatch):
    monkeypatch.setattr(Event, "query", lambda self: self.device.recorded % 5 == 0)  # five at a time
    guard_of = []
    # Samples from inside would record events of their own.
    report = run(batches(40), at=lambda step, model: guard_of.append(step), detectors="minimal")
    times = [r["mean"] for r in report.history if r["name"] == "step_s"]
    assert len(times) == 40
    assert all(t > 0 for t in times)
    assert all(len(set(times[i : i + 5])) == 1 for i in range(0, 40, 5))


def test_batches_are_kept_within_a_bound(device, monkeypatch):
    monkeypatch.setattr("failguard.torch.device.KEPT_BYTES_ELSEWHERE", 2 * (16 * 8 * 4 + 16 * 8))
    held = []
    end_batch = DeviceStepWatch.end_batch

    def count(self, **keywords):
        end_batch(self, **keywords)
        held.append(sum(sent.batch is not None for sent in self._late))

    monkeypatch.setattr(DeviceStepWatch, "end_batch", count)
    run(batches(20))
    assert max(held) == 2


def test_a_device_that_fails_leaves_a_report_and_no_error_of_our_own(device):
    def break_down(step, model):
        device.broken = step >= 5

    report = run(batches(9), at=break_down)
    assert report.part_errors == []
    assert any("device-side assert" in n for n in report.notes)
    assert 0 < report.progress.steps < 5


def test_samples_from_inside_arrive_with_their_steps(device, monkeypatch):
    from failguard.guard import Guard

    seen = []
    record = Guard.record_internals

    def recorded(self, reading, cost_s=0.0):
        seen.append((reading, self.step))
        record(self, reading, cost_s)

    monkeypatch.setattr(Guard, "record_internals", recorded)
    late = run(batches(60))
    arrived, seen[:] = list(seen), []
    monkeypatch.undo()
    monkeypatch.setattr(Guard, "record_internals", recorded)
    at_once = run(batches(60))
    assert late.part_errors == at_once.part_errors == []
    assert all(step > reading.step for reading, step in arrived), "the guard knows of the step by then"
    (first, _), (same, _) = arrived[0], seen[0]
    assert (first.step, first.optimizer_step) == (same.step, same.optimizer_step) == (0, 0)
    assert first.layers[0].gradient_norm == pytest.approx(same.layers[0].gradient_norm, rel=1e-5)
    assert first.layers[1].update_norm == pytest.approx(same.layers[1].update_norm, rel=1e-4)
    assert first.predictions == same.predictions
    assert any(reading.activations for reading, _ in arrived)
