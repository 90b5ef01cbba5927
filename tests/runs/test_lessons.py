from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failguard.runs.entry import Note, RunEntry
from failguard.runs.lessons import LineOfWork, changes_in, current_notes, judge

Make = Callable[..., RunEntry]
MakeNote = Callable[..., Note]


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("lr=0.03", ["lr=0.03"]),
        ("lr = 3e-2 is enough.", ["lr=0.03"]),
        ("keep lr<0.1 and dropout >= 0.3", ["lr<0.1", "dropout>=0.3"]),
        ("use optimizer=adam, batch_size=64", ["optimizer=adam", "batch_size=64"]),
        ("never lr>=0.3", ["lr<0.3"]),
        ("Do not use lr=0.3!", ["lr!=0.3"]),
        ("avoid setting x", []),
        ("lr=0.03 or lower", ["lr=0.03"]),
        ("lr=0.03 or lr=0.01", ["lr=0.03", "lr=0.01"]),
        ("optim.lr := 0.1", ["optim.lr=0.1"]),
        ("data='clean v2'", ["data=clean v2"]),
        ("name<adam", []),
        ("always look at the data first", []),
        ("a == b => c", ["a=b"]),
        ("3=4, =5, lr=", []),
        ("", []),
    ],
)
def test_changes_in_a_text(text: str, changes: list[str]) -> None:
    assert [str(c) for alternative in changes_in(text) for c in alternative] == changes


@pytest.mark.parametrize(
    ("text", "later", "applied", "judgeable"),
    [
        ("lr=0.03", {"lr": 0.03}, True, True),
        ("lr=0.03", {"optimizer.lr": 0.03}, True, True),
        ("lr=0.03", {"learning_rate": 0.03}, True, True),
        ("lr=0.03", {"lr": 0.1}, False, True),
        ("lr=0.3 diverged, lr=0.03", {"lr": 0.03}, True, True),
        ("lr=0.3 diverged at step=140, accuracy=0.8", {"lr": 0.03}, False, False),  # tells what was done
        ("never lr>=0.3", {"lr": 0.03}, True, True),
        ("never lr>=0.3", {"lr": 0.3}, False, True),
        ("never lr>=0.3", {}, False, True),  # a run that does not say its rate does not make the change
        ("lr=0.03 and clip=1", {"lr": 0.03}, False, True),  # both, or it is not made
        ("lr=0.03 and clip=1", {"lr": 0.03, "clip": 1.0}, True, True),
        ("lr=0.01 or clip=1", {"lr": 0.3, "clip": 1}, True, True),
        ("optimizer=adam", {"opt_name": "Adam"}, True, True),
        ("look at the data", {"lr": 0.03}, False, False),
        ("churn_f1=0.8 was the best", {"lr": 0.03}, False, False),  # a metric of the run
    ],
)
def test_a_lesson_is_judged(
    run: Make, lesson: MakeNote, text: str, later: dict[str, object], applied: bool, judgeable: bool
) -> None:
    failed = run("a", "f", 0, config={"lr": 0.3}, metrics={"churn_f1": 0.8})
    judged = judge(failed, lesson(text), LineOfWork([failed, run("b", "s", 2, config=later)]), 1)
    assert (judged.applied_by == "b", judged.judgeable) == (applied, judgeable)


def test_the_setup_answers_where_the_configuration_does_not(run: Make, lesson: MakeNote) -> None:
    failed = run("a", "f", 0, setup={"learning_rate": 0.3, "optimizer": "SGD"})
    line = LineOfWork([failed, run("b", "s", 2, setup={"learning_rate": 0.03, "optimizer": "SGD"})])
    assert judge(failed, lesson("lr=0.03"), line, 1).applied_by == "b"
    assert judge(failed, lesson("lr=0.03"), line, 2).applied_by is None
    assert not judge(failed, lesson("optimizer=sgd"), line, 1).judgeable


def test_only_what_stands_counts(run: Make, lesson: MakeNote) -> None:
    notes = (
        lesson("lr=0.1", 1),
        lesson("lr=0.03", 2, replaces="n1"),
        lesson("width=8", 3),
        lesson("", 4, replaces="n3"),
        lesson("productive", 5, kind="classification"),
        lesson("clip=1", 6, kind="next_step"),
    )
    assert [n.text for n in current_notes(run("a", "f", 0, notes=notes))] == ["lr=0.03", "clip=1"]


@given(st.text(max_size=300))
def test_no_text_is_too_strange(text: str) -> None:
    for alternative in changes_in(text):
        assert alternative


def test_of_a_long_text_the_beginning_is_read() -> None:
    assert changes_in("never use " * 5_000 + "a" * 5_000 + "=" * 5_000 + " lr=0.1") == ()
