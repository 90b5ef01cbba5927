from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from failguard.runs.entry import RunEntry
from failguard.runs.lineage import lineage, parent_of

START = datetime(2026, 3, 1, tzinfo=UTC)


def run(name: str, hour: int = 0, **changes: Any) -> RunEntry:
    values: dict[str, Any] = {
        "run_id": f"id-{name}", "experiment_id": "1", "experiment": "shop", "name": name, "status": "completed",
        "started_at": START + timedelta(hours=hour), "record_id": f"record-{name}",
    }  # fmt: skip
    return RunEntry(**{**values, **changes})


def shape(entries: list[RunEntry]) -> list[tuple[str, int, str]]:
    return [(a.entry.name, a.depth, a.before.name if a.before else "") for a in lineage(entries)]


def test_each_attempt_stands_below_its_parent() -> None:
    runs = [
        run("v4", 4, parent="record-v3", config={"lr": 0.1, "width": 64}),  # by the id of the record
        run("v1", 1, config={"lr": 0.3}),
        run("v3", 3, parent="id-v1", config={"lr": 0.1}),
        run("v2", 2, parent="v1", config={"lr": 0.3}),  # by name
        run("aside", 5, config={"lr": 0.01}),
    ]
    assert shape(runs) == [("v1", 0, ""), ("v2", 1, "v1"), ("v3", 1, "v1"), ("v4", 2, "v3"), ("aside", 0, "v4")]
    by_name = {a.entry.name: a for a in lineage(runs)}
    assert [str(c) for c in by_name["v3"].changes] == ["lr 0.3 → 0.1"]
    assert [str(c) for c in by_name["v4"].changes] == ["width - → 64"]
    assert by_name["v2"].changes == ()
    assert (by_name["v3"].has_parent, by_name["aside"].has_parent) == (True, False)
    assert [a.is_last for a in lineage(runs)] == [False, False, True, True, True]


def test_without_a_configuration_the_setup_is_compared() -> None:
    runs = [run("a", 1, setup={"learning_rate": 0.1}), run("b", 2, setup={"learning_rate": 0.3})]
    assert [str(c) for c in lineage(runs)[1].changes] == ["learning_rate 0.1 → 0.3"]


def test_a_parent_that_is_not_there_or_not_one() -> None:
    twins = [run("twin", 1), run("twin", 2, run_id="other")]
    assert parent_of(run("x", parent="twin"), twins) is None
    assert parent_of(run("x", parent="nobody"), twins) is None
    assert parent_of(run("x", parent="id-x"), [run("x")]) is None  # itself
    found = lineage([run("x", 3, parent="nobody")])[0]
    assert (found.lost_parent, found.before, found.depth) == ("nobody", None, 0)


def test_circles_are_cut() -> None:
    runs = [run("a", 1, parent="c"), run("b", 2, parent="a"), run("c", 3, parent="b"), run("d", 4, parent="c")]
    assert shape(runs) == [("a", 0, ""), ("b", 1, "a"), ("c", 2, "b"), ("d", 3, "c")]


def test_a_line_of_thousands() -> None:
    runs = [run(str(i), i, parent=f"id-{i - 1}" if i else None) for i in range(1_500)]
    assert lineage(runs)[-1].depth == 1_499


@given(st.lists(st.one_of(st.none(), st.integers(0, 11)), max_size=12))
def test_every_run_stands_once(parents: list[int | None]) -> None:
    runs = [run(str(i), i, parent=None if p is None else f"id-{p}") for i, p in enumerate(parents)]
    attempts = lineage(runs)
    assert sorted(a.entry.run_id for a in attempts) == sorted(r.run_id for r in runs)
    place = {a.entry.run_id: i for i, a in enumerate(attempts)}
    for a in attempts:
        if a.has_parent:
            assert a.before is not None
            assert place[a.before.run_id] < place[a.entry.run_id]
