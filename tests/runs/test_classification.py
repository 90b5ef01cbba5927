from __future__ import annotations

from collections.abc import Callable

import pytest

from failguard.runs.classification import classify, earlier_failures
from failguard.runs.entry import Note, RunEntry

Make = Callable[..., RunEntry]
MakeNote = Callable[..., Note]

DIVERGED = {"finding": "loss.divergence", "cause": "learning_rate_too_high"}


@pytest.mark.parametrize(
    ("values", "earlier", "kind"),
    [
        ({**DIVERGED, "fingerprint": "A"}, None, "productive"),
        ({**DIVERGED, "fingerprint": "A"}, {**DIVERGED, "fingerprint": "A"}, "wasteful"),
        ({**DIVERGED, "fingerprint": "A"}, {**DIVERGED, "fingerprint": "B"}, "productive"),
        ({**DIVERGED, "fingerprint": None}, {"fingerprint": None}, "productive"),
        ({"cause": "user_code_error", "fingerprint": "A"}, {"fingerprint": "A"}, "wasteful"),
        ({"finding": "resource.oom", "cause": "batch_size_too_large"}, None, "system"),
        ({"finding": "run.exception", "cause": "disk_full"}, {**DIVERGED}, "system"),
        ({"error_type": "ValueError", "finding": "run.exception", "cause": "user_code_error"}, None, "undecided"),
        ({"error_type": "ValueError"}, None, "undecided"),
        ({}, None, "undecided"),
    ],
)
def test_what_is_proposed(run: Make, values: dict[str, object], earlier: dict[str, object] | None, kind: str) -> None:
    entries = [] if earlier is None else [run("e", "f", 0, **earlier)]
    found = classify(run("a", "f", 5, **values), entries)
    assert found is not None
    assert (found.kind, found.is_stated) == (kind, False)
    assert found.reason.endswith(".")


def test_a_known_lesson_makes_a_repeat_wasteful(run: Make, lesson: MakeNote) -> None:
    taught = run("e", "f", 0, **DIVERGED, fingerprint="B", notes=(lesson("lr=0.03"),))
    found = classify(run("a", "f", 5, **DIVERGED, fingerprint="A"), [taught])
    assert found is not None
    assert found.kind == "wasteful"
    assert "lesson" in found.reason
    # What ran at the same time was not known.
    assert classify(run("a", "f", 0.5, **DIVERGED, fingerprint="B"), [taught]).kind == "productive"  # type: ignore[union-attr]


def test_what_people_said_comes_first(run: Make, lesson: MakeNote) -> None:
    notes = (
        lesson("wasteful", 1, kind="classification"),
        lesson("Productive: it was worth it", 2, kind="classification"),
    )
    found = classify(run("a", "f", 0, finding="resource.oom", notes=notes), [])
    assert found is not None
    assert (found.kind, found.reason, found.is_stated) == ("productive", "it was worth it", True)
    odd = (lesson("who knows", 1, kind="classification"),)
    assert classify(run("a", "f", 0, finding="resource.oom", notes=odd), []).kind == "system"  # type: ignore[union-attr]


def test_no_failure_is_not_classified(run: Make) -> None:
    assert classify(run("a", "s", 0), []) is None
    assert classify(run("a", "u", 0), []) is None


def test_earlier_failures_newest_first(run: Make) -> None:
    a = run("a", "f", 0, fingerprint="A")
    b = run("b", "f", 2, **DIVERGED, fingerprint="B")
    c = run("c", "s", 2, fingerprint="A")
    now = run("now", "f", 10, **DIVERGED, fingerprint="A")
    assert [e.run_id for e in earlier_failures(now, [a, b, c, now])] == ["b", "a"]
