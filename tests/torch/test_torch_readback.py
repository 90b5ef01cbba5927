import math

import pytest
import torch

from failguard.torch.readback import SLOTS, Readback

pytestmark = pytest.mark.framework


class Event:
    """Passes when told to, or when waited for."""

    made: list = []

    def __init__(self):
        self.recorded = self.passed = False
        Event.made.append(self)

    def record(self):
        self.recorded = True

    def query(self):
        assert self.recorded
        return self.passed

    def synchronize(self):
        self.passed = True


@pytest.fixture
def readback():
    Event.made = []
    return Readback(event=Event, pinned=False)


def push(readback, value, context=None):
    readback.push((torch.tensor(value), None, None), context)


def test_a_row_comes_back_when_its_event_has_passed(readback):
    push(readback, 1.0, "a")
    push(readback, 2.0, "b")
    assert readback.arrived() == []
    Event.made[0].passed = True
    (row,) = readback.arrived()
    assert row.values == (1.0, None, None)
    assert row.context == "a"
    assert readback.arrived() == []


def test_rows_stay_in_order(readback):
    push(readback, 1.0)
    push(readback, 2.0)
    Event.made[1].passed = True
    assert readback.arrived() == []  # the first has not passed
    assert [r.values[0] for r in readback.arrived(wait=True)] == [1.0, 2.0]


def test_numbers_keep_their_places(readback):
    readback.push((None, torch.tensor([math.nan]), torch.tensor(3, dtype=torch.int64)))
    readback.push((None, None, None))
    first, empty = readback.arrived(wait=True)
    assert first.values[0] is None
    assert math.isnan(first.values[1])
    assert first.values[2] == 3.0
    assert empty.values == (None, None, None)


def test_nothing_is_lost_when_the_device_lags_far_behind(readback):
    for i in range(SLOTS + 5):
        push(readback, float(i), i)
    rows = readback.arrived(wait=True)
    assert [r.context for r in rows] == list(range(SLOTS + 5))
    assert [r.values[0] for r in rows] == [float(i) for i in range(SLOTS + 5)]
