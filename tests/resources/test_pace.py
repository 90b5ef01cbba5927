from __future__ import annotations

import pytest

from failguard.resources import pace
from failguard.resources.pace import Pace


def test_a_reading_keeps_to_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    p = Pace(share=0.01)
    assert p.due(), "the first comes at once"
    p.took(0.5)
    now[0] = 102.0
    assert p.due(), "the first is no measure: it found nothing loaded"
    p.took(0.05)
    now[0] = 106.9
    assert not p.due()
    now[0] = 107.0
    assert p.due()


def test_no_cost_and_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    p = Pace(share=1e-6)
    p.took(-1.0)
    assert p.due()
    p.took(1e6)
    p.took(1e6)
    now[0] += pace.LONGEST_WAIT_S
    assert p.due(), "the longest wait is bounded"
    p.took(1.0)
    now[0] = 0.0
    assert p.due(), "a clock that went back does not silence it"
