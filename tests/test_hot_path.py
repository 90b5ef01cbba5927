"""What failguard does in a training step is counted, so that it cannot quietly grow. No clock is read.

Bounds have little slack. When a change trips one, first look at the functions that are called most (in the message):
what need not happen in every step belongs behind a cadence or into the part that is called now and then. Raise a bound
only for something that every step needs, and measure it with ``make bench``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks are no part of the package

from benchmarks.overhead.counting import OWN, Counts, StepCounter, counted_syncs, fixed_cadences
from benchmarks.overhead.programs import PROGRAMS, LoopWatch

FIRST, STEPS = 1700, 512  # by then as many samples from inside are kept as are to be

# In an ordinary step, in which no check is due: calls of failguard's functions.
ORDINARY = {"loop": 9, "lightning": 12, "keras": 3, "keras-jit": 3}
# On average, with every check at its shortest interval: calls outside of the detectors, and in them.
AVERAGE = {"loop": (33.5, 60), "lightning": (43, 30), "keras": (12.5, 25), "keras-jit": (13, 25)}
# On average: reads of tensors, each of which would wait for an accelerator. Two are the loss and one gradient.
READS = {"loop": 3.5, "lightning": 3.5}
# Memory blocks a step: samples from inside that replace older ones, which were made before memory was traced.
KEPT_BLOCKS = 1.3
JUDGING = ("detectors/", "core/", "episodes.py")

REMEDY = (
    "The hot path of {name} has grown: {what} {found:.2f} a step, the bound is {bound}. Take what is new out of the "
    "ordinary step, or put it behind a cadence; raise the bound in tests/test_hot_path.py only with figures from "
    "`make bench`. {details}"
)


def guarded_loop(**keywords):
    from failguard.torch import FailGuard

    class Guarded(LoopWatch):
        def begin(self, model, optimizer):
            self.guard = FailGuard(model, optimizer, sinks=[], **keywords)
            return optimizer

        def step(self, loss, batch):
            return self.guard.step(loss=loss, batch=batch)

        def end(self):
            self.guard.close()

    return Guarded()


def watch_for(framework):
    if framework == "loop":
        return guarded_loop()
    if framework == "lightning":
        from failguard.lightning import FailGuard as LightningGuard

        return {"callbacks": [LightningGuard(sinks=[])]}
    from failguard.keras import FailGuard as KerasGuard

    return [KerasGuard(sinks=[])]


def counts_of(program, watch, *, first=FIRST, steps=STEPS, syncs=True, counter=None):
    counter = counter or StepCounter(first, steps)
    seen = 0

    def tick():
        nonlocal seen
        seen += 1
        counter.tick()
        return seen < counter.last + 2

    try:
        with fixed_cadences():
            if syncs:
                with counted_syncs(counter.counts):
                    PROGRAMS[program].train(watch, tick)
            else:
                PROGRAMS[program].train(watch, tick)
    finally:
        counter.close()
    return counter.counts, seen


def check(name: str, counts: Counts, total_steps: int) -> None:
    judging = counts.mean_calls_in(*JUDGING)
    called = f"What is called most:\n{counts.busiest()}"
    kept = "Most stays in:\n" + "\n".join(counts.kept_where)
    most, most_judging = AVERAGE[name]
    for what, found, bound, details in (
        ("calls in an ordinary step,", counts.ordinary_calls, ORDINARY[name], called),
        ("calls on average,", counts.mean_calls - judging, most, called),
        ("calls in detectors on average,", judging, most_judging, called),
        ("reads of tensors,", counts.syncs / total_steps, READS.get(name, 0.0), called),
        ("memory blocks that stay,", counts.kept_blocks / STEPS, KEPT_BLOCKS, kept),
    ):
        assert found <= bound, REMEDY.format(name=name, what=what, found=found, bound=bound, details=details)


@pytest.mark.framework
@pytest.mark.parametrize("name", ["loop", "lightning"])
def test_a_torch_step_does_no_more_than_it_must(name):
    counts, total_steps = counts_of(f"{name}-tiny", watch_for(name))
    assert counts.steps == STEPS
    assert counts.syncs > total_steps  # the loss of each step is read: the stand-ins count
    check(name, counts, total_steps)


@pytest.mark.framework
@pytest.mark.parametrize(("name", "program"), [("keras", "keras-tiny"), ("keras-jit", "keras-tiny-jit")])
def test_a_keras_step_does_no_more_than_it_must(name, program):
    counts, total_steps = counts_of(program, watch_for("keras"), syncs=False)
    assert counts.steps == STEPS
    check(name, counts, total_steps)


@pytest.mark.framework
def test_one_more_call_or_object_in_a_step_trips_the_bounds(monkeypatch):
    from failguard.torch.watch import StepWatch

    original = StepWatch.see_loss
    kept = []
    # In a function that counts as failguard's own, by the name of its file.
    source = "def extra(kept):\n    kept.append(object())\n"
    place = {}
    exec(compile(source, f"{OWN}/torch/extra.py", "exec"), place)

    def see_loss(self, loss):
        place["extra"](kept)
        original(self, loss)

    monkeypatch.setattr(StepWatch, "see_loss", see_loss)
    counts, total_steps = counts_of("loop-tiny", watch_for("loop"), first=400)
    with pytest.raises(AssertionError, match=r"calls in an ordinary step, 10\.00 a step, the bound is 9"):
        check("loop", counts, total_steps)
    assert counts.kept_blocks / STEPS > KEPT_BLOCKS


@pytest.mark.framework
def test_measuring_on_a_device_reads_no_tensor_in_a_step(monkeypatch):
    """The watch for accelerators, with events that have passed in place of a device's."""

    from failguard.torch import callback
    from failguard.torch.arrivals import Arrivals
    from failguard.torch.device import DeviceStepWatch
    from failguard.torch.readback import Readback

    class Passed:
        def record(self, stream=None):
            pass

        def query(self):
            return True

    readback = Readback(event=Passed, pinned=False)
    monkeypatch.setattr(callback, "StepWatch", lambda *args, **kw: DeviceStepWatch(*args, readback=readback, **kw))
    counter = StepCounter(200, STEPS)
    take_in = Arrivals.take_in

    def from_the_host(self):  # what has arrived may be read
        before = counter.counts.sync_places.copy()
        take_in(self)
        counter.counts.sync_places = before

    monkeypatch.setattr(Arrivals, "take_in", from_the_host)
    watch = guarded_loop(check_data=False)
    counts, _ = counts_of("loop-tiny", watch, counter=counter)
    # Every step, the row that has arrived in host memory, which waits for nothing. On a CPU the first batches too.
    others = {place: n for place, n in counts.sync_places.items() if place != "torch/readback.py"}
    assert set(others) <= {"torch/batches.py", "torch/measure.py"}, others
    assert sum(others.values()) <= 300, others
    assert counts.kept_blocks / STEPS <= KEPT_BLOCKS, counts.kept_where
