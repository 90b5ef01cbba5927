from __future__ import annotations

from collections.abc import Callable

import pytest

from failguard.runs.awards import awards
from failguard.runs.entry import Note, RunEntry
from failguard.runs.metrics import LearningMetrics

Make = Callable[..., RunEntry]
MakeNote = Callable[..., Note]


def given(runs: list[RunEntry]) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    return {a.name: (a.members, a.runs) for a in awards(LearningMetrics(runs))}


def test_nobody_qualifies(run: Make) -> None:
    assert given([]) == {}
    assert given([run("a", "s", 0), run("b", "u", 1), run("c", "r", 2)]) == {}
    assert given([run("a", "f", 0), run("b", "s", 2)]) == {}  # no plan, no lesson, no configuration


@pytest.mark.parametrize(
    ("changes", "wins"),
    [
        ({}, True),
        ({"steps": 51}, False),  # more than half of the plan
        ({"status": "failed"}, False),  # it raised
        ({"cause": "disk_full"}, False),
        ({"finding": "resource.oom"}, False),
        ({"planned_steps": None}, False),
        ({"fingerprint": "old"}, False),  # a repeat
    ],
)
def test_fast_fail(run: Make, changes: dict[str, object], wins: bool) -> None:
    first = run("old", "f", 0, fingerprint="old")
    quick = run("a", "f", 5, **{"steps": 5, "planned_steps": 100, "user": "ada", "fingerprint": "A", **changes})
    slow = run("b", "f", 5, steps=80, planned_steps=100, user="bob", fingerprint="B")
    expected = {"Fast Fail": (("ada",), ("a",))} if wins else {}
    assert given([first, quick, slow]) == expected


def test_ties_are_named_and_nobody_is(run: Make) -> None:
    runs = [
        run("a", "f", 0, steps=10, planned_steps=100, user="bob", tags={"mlflow.user": "bob"}),
        run("b", "f", 0, steps=20, planned_steps=200, tags={"failguard.tag.member": "ada", "mlflow.user": "ci"}),
        run("c", "f", 0, steps=10, planned_steps=100),
    ]
    (award,) = awards(LearningMetrics(runs))
    assert award.members == ("(no member named)", "ada", "bob")
    assert award.runs == ("a", "b", "c")
    assert award.why == "Stopped after 10 of 100 steps and 20 of 200 steps (10 % of the plan)."


def test_learning_champion(run: Make, lesson: MakeNote) -> None:
    runs = [
        run("a", "f", 0, notes=(lesson("x", 1), lesson("X ", 2), lesson("y", 3, author="bob")), user="ada"),
        run("b", "f", 2, notes=(lesson("z", 4, author="bob"), lesson("w", 5, author="ada", kind="next_step"))),
        run("c", "s", 3, notes=(lesson("p", 6, author="ada"), lesson("q", 7, author="ada"))),  # no failure
    ]
    (award,) = awards(LearningMetrics(runs))
    assert (award.name, award.members, award.runs) == ("Learning Champion", ("bob",), ("a", "b"))
    assert award.why == "2 lessons from 2 runs that failed."
    nameless = [run("a", "f", 0, notes=(lesson("x", author=""),), user="eve")]
    assert awards(LearningMetrics(nameless))[0].members == ("eve",)


def test_pivot_master(run: Make) -> None:
    runs = [
        run("a1", "f", 0, line="a", config={"lr": 0.3}, user="ada"),
        run("a2", "f", 2, line="a", config={"lr": 0.1}, user="ada"),
        run("a3", "s", 4, line="a", config={"lr": 0.01}, user="bob"),
        run("b1", "f", 0, line="b", config={"lr": 0.1}, user="ada"),
        run("b2", "s", 2, line="b", config={"lr": 0.1}, user="ada"),  # the same again: luck
        run("c1", "f", 0, line="c", config={"lr": 0.1}, approach="trees", user="ada"),
        run("c2", "p", 2, line="c", config={"lr": 0.1}, approach="nets", user="ada"),  # partial
    ]
    (award,) = awards(LearningMetrics(runs))
    assert (award.name, award.members, award.runs) == ("Pivot Master", ("bob",), ("a2", "a3"))
    assert award.why == "1 pivot, the last in a: lr 0.1 → 0.01."
    later = run("c3", "s", 4, line="c", config={"lr": 0.1}, approach="nets", user="ada")
    assert given([*runs, later])["Pivot Master"] == (("ada", "bob"), ("c1", "a2", "a3", "c3"))


def test_a_pivot_counts_where_it_succeeds(run: Make) -> None:
    runs = [
        run("a", "f", 0, config={"lr": 0.3}, user="ada"),
        run("b", "s", 200, config={"lr": 0.03}, user="ada"),
    ]
    first, second = LearningMetrics(runs).by_week()
    assert awards(first) == []
    assert [a.name for a in awards(second)] == ["Pivot Master"]
