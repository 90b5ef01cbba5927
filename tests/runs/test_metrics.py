from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failguard.errors import InputError
from failguard.report.outcome import Outcome
from failguard.runs.entry import Note, RunEntry
from failguard.runs.metrics import LearningMetrics

Make = Callable[..., RunEntry]
MakeNote = Callable[..., Note]
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
DAY = 24.0
RATES = ("lesson_application_rate", "repeat_failure_rate", "innovation_index")


@pytest.fixture
def history(run: Make, lesson: MakeNote) -> list[RunEntry]:
    """Two weeks of two lines, small enough for a pencil.

    ====  ====  ========  =======================  ==========  =====================================
    run   line  starts    came of it               finger-     lessons
                          (each takes one hour)    print
    ====  ====  ========  =======================  ==========  =====================================
    a1    a     0 h       failure, lr 0.3          A           "use lr=0.03", "look at the data"
    a2    a     24 h      failure, lr 0.28         A           "clip=1"
    b1    b     30 h      failure, memory          B
    a3    a     48 h      success, lr 0.03
    b2    b     54 h      partial, batch 32
    b3    b     168 h     success, batch 16
    b4    b     170 h     failure, memory again    B
    u     a     200 h     not known, no config
    r     b     240 h     runs, batch 8
    ====  ====  ========  =======================  ==========  =====================================
    """
    a, b = {"line": "a"}, {"line": "b", "experiment": "other"}
    rate, memory = "learning_rate_too_high", "batch_size_too_large"
    ada, bob = {"user": "ada", "tags": {"mlflow.user": "ada"}}, {"tags": {"failguard.tag.member": "bob"}, "user": "ci"}
    return [
        run("a1", "f", 0, config={"lr": 0.3}, fingerprint="A", cause=rate, wasted_h=0.5, used_h=1.0,
            detected_after_s=60.0, notes=(lesson("use lr=0.03", 1), lesson("look at the data", 2)), **a, **ada),
        run("a2", "f", DAY, config={"lr": 0.28}, fingerprint="A", cause=rate, wasted_h=0.25, saved_h=2.0, used_h=1.0,
            detected_after_s=20.0, notes=(lesson("clip=1", 3, kind="next_step"),), **a, **ada),
        run("b1", "f", 30, config={"batch": 64}, fingerprint="B", cause=memory, wasted_gpu_h=3.0, **b, **bob),
        run("a3", "s", 48, config={"lr": 0.03}, used_h=1.0, wasted_h=0.0, **a, **ada),
        run("b2", "p", 54, config={"batch": 32}, **b, **bob),
        run("b3", "s", 168, config={"batch": 16}, **b, **ada),
        run("b4", "f", 170, config={"batch": 64}, fingerprint="B", cause=memory, detected_after_s=100.0, **b, **bob),
        run("u", "u", 200, **a, **bob),
        run("r", "r", 240, config={"batch": 8}, **b, **bob),
    ]  # fmt: skip


def test_the_numbers_by_hand(history: list[RunEntry]) -> None:
    m = LearningMetrics(history, since=MONDAY, until=MONDAY + timedelta(days=14))
    assert m.weeks == 2.0
    assert m.experiment_velocity == 4.5  # 9 runs in 2 weeks
    # a1 ends at 1 h, a2 at 25 h, a3 at 49 h; b1 ends at 31 h, b3 at 169 h; b2 is partial; b4 has no success after it
    assert m.failure_recovery_time_h == pytest.approx((48 + 24 + 138) / 3)
    assert m.lesson_application_rate == 0.5  # of "lr=0.03" and "clip=1", the first
    assert m.repeat_failure_rate == 0.5  # a2 and b4 of four
    assert m.innovation_index == pytest.approx(
        6 / 8
    )  # a2 is in the region of a1, b4 in that of b1; of u nothing is known
    assert m.time_to_detect_s == 60.0
    score = 0.3 * 0.5 + 0.3 * (1 - 0.5) + 0.2 * 6 / 8 + 0.2 * 4.5 / 10
    assert m.learning_efficiency_score() == pytest.approx(score)
    assert m.calculate_team_learning_rate() == {
        "experiment_velocity": 4.5,
        "failure_recovery_time": pytest.approx(70.0),
        "lesson_application_rate": 0.5,
        "repeat_failure_rate": 0.5,
        "innovation_index": pytest.approx(0.75),
    }


def test_every_number_says_what_it_is_computed_from(history: list[RunEntry]) -> None:
    d = LearningMetrics(history).details
    assert (d["repeat_failure_rate"].counted, d["repeat_failure_rate"].of) == (2, 4)
    assert d["repeat_failure_rate"].runs == ("a2", "b4")
    assert d["failure_recovery_time_h"].runs == ("a1", "a2", "b1")
    assert d["failure_recovery_time_h"].left_out == 1
    assert d["lesson_application_rate"].left_out == 1  # "look at the data" names no change
    assert d["lesson_application_rate"].runs == ("a1",)
    assert d["innovation_index"].left_out == 1
    assert d["innovation_index"].runs == ("a1", "b1", "a3", "b2", "b3", "r")
    assert (d["failure_rate"].counted, d["failure_rate"].of, d["failure_rate"].left_out) == (4, 7, 2)
    assert "Of 1 run the outcome is not known" in d["failure_rate"].basis
    assert d["used_h"].value == 3.0
    assert (d["wasted_h"].value, d["wasted_h"].of, d["wasted_h"].left_out) == (0.75, 3, 6)
    assert (d["saved_h"].value, d["wasted_gpu_h"].value, d["saved_gpu_h"].value) == (2.0, 3.0, None)


def test_a_table_by_cause(history: list[RunEntry]) -> None:
    memory, rate = LearningMetrics(history).by_cause()
    assert (memory.cause, memory.failures, memory.repeats, memory.recovered) == ("batch_size_too_large", 2, 1, 1)
    assert (memory.recovery_h, memory.wasted_gpu_h, memory.wasted_h) == (138.0, 3.0, None)
    assert (rate.cause, rate.share, rate.recovery_h, rate.wasted_h) == ("learning_rate_too_high", 0.5, 36.0, 0.75)
    assert rate.runs == ("a1", "a2")


def test_repeated_failures(history: list[RunEntry]) -> None:
    first, second = LearningMetrics(history).repeated_failures()
    assert (first.fingerprint, first.times, first.runs, first.lines) == ("A", 2, ("a1", "a2"), ("a",))
    assert first.lessons == ("use lr=0.03", "look at the data")
    assert first.wasted_h == 0.25  # what the repeat cost
    assert (second.fingerprint, second.runs) == ("B", ("b1", "b4"))


def test_of_a_part_it_is_said_how_often_a_failure_was_known(run: Make) -> None:
    runs = [run(f"r{i}", "f", 100 * i, fingerprint="A", wasted_h=1.0, user="ada" if i else "bob") for i in range(4)]
    m = LearningMetrics(runs)
    second = m.by_week()[1].repeated_failures()  # of r2 and r3
    assert [(row.times, row.runs, row.wasted_h) for row in second] == [(4, ("r0", "r1", "r2", "r3"), 2.0)]
    first = m.by_week()[0].repeated_failures()
    assert [(row.times, row.runs, row.wasted_h) for row in first] == [(2, ("r0", "r1"), 1.0)]
    assert m.of_member("bob").repeated_failures() == []
    assert m.of_member("ada").repeated_failures()[0].times == 4


def test_weeks_remember_what_was_before(history: list[RunEntry]) -> None:
    first, second = LearningMetrics(history).by_week()
    assert (len(first.judged), len(second.judged)) == (5, 4)
    assert (first.repeat_failure_rate, second.repeat_failure_rate) == (pytest.approx(1 / 3), 1.0)
    assert second.repeated_failures()[0].runs == ("b1", "b4")
    assert (first.experiment_velocity, second.experiment_velocity) == (5.0, 4.0)
    # A window of its own knows nothing of the week before.
    assert LearningMetrics(history, since=MONDAY + timedelta(days=7)).repeat_failure_rate == 0.0


def test_members_and_experiments(history: list[RunEntry]) -> None:
    m = LearningMetrics(history)
    members = m.by_member()
    assert list(members) == ["ada", "bob"]
    assert (len(members["ada"].judged), len(members["bob"].judged)) == (4, 5)
    assert members["bob"].details["failure_recovery_time_h"].runs == ("b1",)  # ended by ada's b3
    assert members["bob"].repeat_failure_rate == 0.5
    assert LearningMetrics(history, member="bob").to_dict() == members["bob"].to_dict()
    assert [len(p.judged) for p in m.by_experiment().values()] == [4, 5]
    with pytest.raises(InputError, match=r"of 'eve'. Runs are of: 'ada', 'bob'"):
        m.of_member("eve")
    assert set(LearningMetrics(history, member_tag="team").by_member()) == {""}


def test_a_window_open_at_a_side_is_a_week_at_least(run: Make) -> None:
    runs = [run("a", "s", 0), run("b", "s", 2)]
    assert LearningMetrics(runs).experiment_velocity == 2.0
    assert LearningMetrics(runs, since=MONDAY).experiment_velocity == 2.0
    until = MONDAY + timedelta(days=1)
    assert LearningMetrics(runs, since=MONDAY, until=until).experiment_velocity == 14.0
    assert LearningMetrics([run("a", "s", 0), run("b", "s", 21 * DAY - 1)]).experiment_velocity == pytest.approx(2 / 3)


def test_the_window_takes_its_start_and_not_its_end(run: Make) -> None:
    runs = [run("a", "s", 0), run("b", "s", 24)]
    m = LearningMetrics(runs, since=MONDAY, until=MONDAY + timedelta(hours=24))
    assert [e.run_id for e in m.entries] == ["a"]
    berlin = ZoneInfo("Europe/Berlin")
    assert LearningMetrics(runs, since=datetime(2026, 1, 6, 1, tzinfo=berlin)).entries == [runs[1]]
    local = datetime(2026, 1, 6).astimezone()
    assert LearningMetrics(runs, since=datetime(2026, 1, 6)).first == local
    with pytest.raises(InputError, match=r"ends .* before it begins"):
        LearningMetrics(runs, since=MONDAY, until=MONDAY)


def test_nothing_to_compute_from(run: Make) -> None:
    m = LearningMetrics([])
    assert m.calculate_team_learning_rate() == dict.fromkeys(m.calculate_team_learning_rate())
    assert m.learning_efficiency_score() is None
    assert m.by_week() == m.by_cause() == m.repeated_failures() == []
    assert "No run" in m.explain("repeat_failure_rate")
    assert LearningMetrics([], since=MONDAY, until=MONDAY + timedelta(days=7)).experiment_velocity == 0.0
    healthy = LearningMetrics([run("a", "s", 0, config={"lr": 0.1})])
    assert healthy.repeat_failure_rate is None
    assert healthy.learning_efficiency_score() is None  # a part is undefined
    unwatched = LearningMetrics([run("a", "f", 0, fingerprint=None)])
    assert unwatched.repeat_failure_rate is None
    assert "failguard did not watch them" in unwatched.explain("repeat_failure_rate")
    with pytest.raises(InputError, match="no number 'velocity'"):
        healthy.explain("velocity")


def test_runs_at_the_same_time_learn_nothing_from_each_other(run: Make, lesson: MakeNote) -> None:
    sweep = [
        run("a", "f", 0, 5, config={"lr": 0.3}, fingerprint="A", notes=(lesson("lr=0.03"),)),
        run("b", "f", 1, 5, config={"lr": 0.3}, fingerprint="A"),
        run("c", "s", 2, 5, config={"lr": 0.03}),
    ]
    m = LearningMetrics(sweep)
    assert (m.repeat_failure_rate, m.failure_recovery_time_h, m.lesson_application_rate) == (0.0, None, 0.0)


def test_the_next_success_is_the_first_to_end(run: Make) -> None:
    runs = [run("a", "f", 0), run("slow", "s", 2, 50), run("fast", "s", 3, 2)]
    assert LearningMetrics(runs).failure_recovery_time_h == 4.0


def test_half_written_runs(run: Make) -> None:
    undated = run("x", "f", 0, started_at=datetime.fromtimestamp(0, UTC))
    backwards = run("y", "f", 5, ended_at=MONDAY, fingerprint="A")
    naive = run("z", "f", 0, started_at=datetime(2026, 1, 7), ended_at=None, fingerprint="A")
    m = LearningMetrics([undated, backwards, naive])
    assert [e.run_id for e in m.entries] == ["y", "z"]
    assert m.repeat_failure_rate == 0.5


def test_weeks_begin_on_monday_in_the_zone(run: Make) -> None:
    zone = ZoneInfo("America/New_York")
    runs = [run("a", "s", 4), run("b", "s", 5), run("c", "s", 15 * DAY)]  # a: Sunday 23:00 there
    first, second, third, fourth = LearningMetrics(runs, zone=zone).by_week()
    assert [len(w.judged) for w in (first, second, third, fourth)] == [1, 1, 0, 1]
    assert second.first is not None
    assert second.first.isoformat() == "2026-01-05T00:00:00-05:00"
    assert third.details["failure_rate"].value is None


def test_as_json(history: list[RunEntry]) -> None:
    d = json.loads(json.dumps(LearningMetrics(history).to_dict(), allow_nan=False))
    assert d["runs"] == 9
    assert d["outcomes"] == {"failure": 4, "partial": 1, "running": 1, "success": 2, "unknown": 1}
    assert d["details"]["innovation_index"]["runs"][0] == "a1"


class _Registry:
    def __init__(self, entries: list[RunEntry]) -> None:
        self.entries, self.asked = entries, {}

    def list(self, **asked: Any) -> list[RunEntry]:
        self.asked = asked
        return self.entries


def test_from_a_registry(history: list[RunEntry]) -> None:
    registry = _Registry(history)
    m = LearningMetrics.from_registry(registry, "churn", since=MONDAY, member="bob")  # type: ignore[arg-type]
    assert registry.asked == {"experiment": "churn", "since": MONDAY, "until": None, "refresh": True}
    assert len(m.judged) == 5


# Any history


@st.composite
def histories(draw: st.DrawFn) -> list[RunEntry]:
    n = draw(st.integers(0, 14))
    found = []
    for i in range(n):
        start = MONDAY + timedelta(hours=draw(st.integers(0, 24 * 40)))
        outcome = draw(st.sampled_from([*Outcome, None]))
        text = draw(st.sampled_from(["", "lr=0.1", "never lr>=0.2", "look"]))
        found.append(
            RunEntry(
                run_id=f"r{i}",
                experiment_id="1",
                experiment=draw(st.sampled_from("xy")),
                name="",
                status="completed" if outcome else "running",
                started_at=start,
                ended_at=draw(st.sampled_from([None, start + timedelta(hours=draw(st.integers(0, 60)))])),
                outcome=outcome,
                line=draw(st.sampled_from("xy")),
                fingerprint=draw(st.sampled_from([None, "A", "B"])),
                cause=draw(st.sampled_from([None, "learning_rate_too_high"])),
                config=draw(st.sampled_from([{}, {"lr": 0.1}, {"lr": 0.3}, {"lr": 0.8}])),
                user=draw(st.sampled_from(["ada", "bob", ""])),
                used_h=draw(st.sampled_from([None, 1.0, 0.1])),
                wasted_h=draw(st.sampled_from([None, 0.5, 0.3])),
                notes=(Note("n", "lesson", text, "ada", start),) if text else (),
            )
        )
    return found


@settings(deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_the_order_does_not_matter(entries: list[RunEntry], random: Any) -> None:
    shuffled = [*entries, *entries[:2]]  # one that comes twice counts once
    random.shuffle(shuffled)
    assert LearningMetrics(shuffled).to_dict() == LearningMetrics(entries).to_dict()


@settings(deadline=None)
@given(histories())
def test_the_numbers_keep_their_bounds(entries: list[RunEntry]) -> None:
    m = LearningMetrics(entries)
    for name in (*RATES, "failure_rate"):
        figure = m.details[name]
        assert figure.value is None or 0 <= figure.value <= 1
        assert 0 <= figure.counted <= figure.of
        assert set(figure.runs) <= {e.run_id for e in entries}
    score = m.learning_efficiency_score()
    assert score is None or 0 <= score <= 1
    assert m.failure_recovery_time_h is None or m.failure_recovery_time_h >= 0
    for figure in m.details.values():
        assert figure.basis.endswith(".")
        assert (figure.value is None) <= (figure.counted == 0)
    assert sum(row.failures for row in m.by_cause()) == sum(e.failed for e in m.entries)


COUNTS = (
    "failure_rate",
    "failure_recovery_time_h",
    "lesson_application_rate",
    "repeat_failure_rate",
    "innovation_index",
)


@settings(deadline=None)
@given(histories(), st.integers(0, 24 * 40))
def test_parts_add_up(entries: list[RunEntry], at_h: int) -> None:
    whole = LearningMetrics(entries)
    cut, end = MONDAY + timedelta(hours=at_h), MONDAY + timedelta(days=100)
    halves = [whole.within(MONDAY, cut), whole.within(cut, end)] if at_h else [whole.within(MONDAY, end)]
    for parts in (halves, whole.by_week(), list(whole.by_member().values()), list(whole.by_experiment().values())):
        assert sorted(e.run_id for p in parts for e in p.entries) == sorted(e.run_id for e in whole.entries)
        for name in COUNTS:
            assert sum(p.details[name].counted for p in parts) == whole.details[name].counted, name
            assert sum(p.details[name].of for p in parts) == whole.details[name].of, name
        for name in ("used_h", "wasted_h"):
            total = sum(p.details[name].value or 0.0 for p in parts)
            assert total == pytest.approx(whole.details[name].value or 0.0)


@settings(deadline=None)
@given(histories(), st.integers(1, 24 * 40))
def test_a_window_is_as_if_the_other_runs_were_not(entries: list[RunEntry], at_h: int) -> None:
    since, until = MONDAY + timedelta(hours=at_h), MONDAY + timedelta(hours=2 * at_h)
    inside = [e for e in entries if since <= e.started_at < until]
    of_all, of_inside = (LearningMetrics(x, since=since, until=until).to_dict() for x in (entries, inside))
    assert of_all == of_inside
    assert of_all["experiment_velocity"] == pytest.approx(len(inside) / (at_h / 168))


@settings(deadline=None)
@given(histories(), st.integers(-12, 14), st.integers(0, 24 * 20))
def test_other_time_zones_change_nothing(entries: list[RunEntry], offset_h: int, at_h: int) -> None:
    zone = timezone(timedelta(hours=offset_h))
    there = [
        replace(
            e,
            started_at=e.started_at.astimezone(zone),
            ended_at=None if e.ended_at is None else e.ended_at.astimezone(zone),
        )
        for e in entries
    ]
    since = MONDAY + timedelta(hours=at_h)
    a = LearningMetrics(entries, since=since)
    b = LearningMetrics(there, since=since.astimezone(zone))
    assert a.calculate_team_learning_rate() == b.calculate_team_learning_rate()
    assert a.details == b.details


@settings(deadline=None)
@given(histories(), st.integers(-100, 100))
def test_other_days_change_nothing(entries: list[RunEntry], days: int) -> None:
    shift = timedelta(days=days)
    moved = [
        replace(e, started_at=e.started_at + shift, ended_at=None if e.ended_at is None else e.ended_at + shift)
        for e in entries
    ]
    assert LearningMetrics(moved).details == LearningMetrics(entries).details
