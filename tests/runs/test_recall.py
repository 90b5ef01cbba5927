"""What earlier runs say: when it warns, what it says, and when it is silent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failguard.core.codes import CAUSES, FINDINGS
from failguard.report.outcome import Outcome
from failguard.runs.entry import Note, RunEntry
from failguard.runs.memory_settings import FailureMemory
from failguard.runs.recall import CODE, CONFIGURED_CAUSES, Recollection, recall, recall_failure
from failguard.runs.similarity import values_of

START = datetime(2026, 11, 1, tzinfo=UTC)
MEMORY = FailureMemory()
SETUP = {"model": "Net", "optimizer": "SGD", "loss": "mse", "parameters": 1000}


def entry(hour: int, *, failed: bool, lr: float = 0.3, **changes: Any) -> RunEntry:
    config = {"lr": lr, "width": 64, "epochs": 10, "seed": hour, **changes.pop("config", {})}
    lessons = changes.pop("lessons", ())
    values: dict[str, Any] = {
        "run_id": f"{hour:032x}",
        "experiment_id": "1",
        "experiment": "churn",
        "line": "churn",
        "name": f"run-{hour}",
        "status": "stopped" if failed else "completed",
        "outcome": Outcome.FAILURE if failed else Outcome.SUCCESS,
        "started_at": START + timedelta(hours=hour),
        "finding": "loss.divergence" if failed else None,
        "findings": ("loss.divergence",) if failed else (),
        "cause": "learning_rate_too_high" if failed else None,
        "fingerprint": "f" * 16 if failed else None,
        "steps": 100 + hour,
        "config": config,
        "setup": {**SETUP, "learning_rate": config["lr"]},
        "notes": tuple(Note(str(i), "lesson", text, "ada", START) for i, text in enumerate(lessons)),
    }
    return RunEntry(**{**values, **changes})


def ask(entries: list[RunEntry], lr: float = 0.3, memory: FailureMemory = MEMORY, **config: Any) -> Recollection | None:
    new = {"lr": lr, "width": 64, "epochs": 10, "seed": 99, **config}
    return recall(values_of(new, {**SETUP, "learning_rate": lr}, memory), entries, memory)


FAILED = [entry(i, failed=True, lr=lr) for i, lr in ((1, 0.3), (2, 0.4), (3, 0.5))]
GOOD = [entry(i, failed=False, lr=lr) for i, lr in ((4, 0.03), (5, 0.01), (6, 0.02), (7, 0.001), (8, 0.03))]


def test_it_warns_and_says_which_value_decides() -> None:
    found = ask([*GOOD, *FAILED])
    assert found is not None
    assert found.message == (
        "3 earlier runs with a configuration like this diverged by step 103 (lr >= 0.3 diverged 3 of 3, lr <= 0.03 "
        "learned 5 of 5); run run-8 with lr 0.03 learned."
    )
    assert found.evidence == {"earlier_failures": 3.0, "earlier_successes": 5.0, "similar_share": 1.0}
    assert [row["run_id"] for row in found.runs] == [e.run_id for e in reversed(FAILED)]
    assert found.runs[0]["fixed_by"] == "lr 0.5 -> 0.03 in run run-4"
    assert found.runs[0]["match"] == "configuration"


def test_one_failure_is_enough_and_lessons_are_told() -> None:
    found = ask([entry(1, failed=True, lessons=["warm up first."])])
    assert found is not None
    assert found.message == (
        "1 earlier run with a configuration like this diverged by step 101 (lr 0.3); lesson: warm up first."
    )
    assert ask(FAILED[:1], memory=FailureMemory(min_failures=2)) is None
    assert ask(FAILED, memory=FailureMemory(min_failures=3)) is not None


@pytest.mark.parametrize("lr", [0.25, 0.3, 0.6, 3.0, 300.0])
def test_near_values_and_worse_ones_are_warned_of(lr: float) -> None:
    assert ask([*GOOD, *FAILED], lr) is not None
    assert ask(FAILED, lr) is not None


@pytest.mark.parametrize("lr", [0.03, 0.05, 0.1, 1e-5])
def test_silent_at_values_unlike_any_that_failed(lr: float) -> None:
    assert ask([*GOOD, *FAILED], lr) is None
    assert ask(FAILED, lr) is None


def test_silent_on_first_runs_and_where_nothing_failed() -> None:
    assert ask([]) is None
    assert ask(GOOD) is None


def test_silent_for_another_model_optimizer_or_too_many_other_values() -> None:
    assert ask([entry(1, failed=True, setup={**SETUP, "model": "Other"})]) is None
    assert ask([entry(1, failed=True, setup={**SETUP, "optimizer": "Adam"})]) is None
    assert ask(FAILED[:1], width=4096, epochs=1) is None
    assert ask(FAILED[:1], width=4096, epochs=1, memory=FailureMemory(keys=["lr"])) is not None
    assert ask(FAILED[:1], width=4096, epochs=1, memory=FailureMemory(ignore_keys=["width", "epochs"])) is not None
    assert ask(FAILED[:1], width=70, memory=FailureMemory(similar_share=1.0)) is None


def test_silent_where_what_tames_the_failure_was_added() -> None:
    assert ask(FAILED[:1], grad_clip=1.0) is None
    assert ask(FAILED[:1], lr_scheduler="warmup_cosine") is None
    assert ask(FAILED[:1], other_thing=1.0) is not None


def test_silent_where_the_same_configuration_went_well_since_or_more_often() -> None:
    failed = [entry(1, failed=True), entry(2, failed=True)]
    assert ask([*failed, entry(0, failed=False)]) is not None, "it failed since"
    assert ask([*failed, entry(3, failed=False)]) is None, "it went well since"
    assert ask([*failed, *(entry(-i, failed=False) for i in (1, 2, 3))]) is None, "it went well more often"


def test_silent_where_a_good_run_is_nearer() -> None:
    assert ask([entry(1, failed=True, lr=0.4), entry(2, failed=True, lr=0.2), entry(0, failed=False, lr=0.3)]) is None


@pytest.mark.parametrize("cause", sorted(set(CAUSES) - CONFIGURED_CAUSES))
def test_silent_where_the_configuration_was_not_to_blame(cause: str) -> None:
    assert ask([entry(1, failed=True, cause=cause)]) is None


@pytest.mark.parametrize("cause", sorted(CONFIGURED_CAUSES))
def test_every_cause_in_the_configuration_is_remembered(cause: str) -> None:
    assert cause in CAUSES
    assert ask([entry(1, failed=True, cause=cause)]) is not None


@pytest.mark.parametrize(
    ("changes", "is_remembered"),
    [
        ({"cause": None}, True),
        ({"cause": None, "finding": "run.exception"}, False),
        ({"cause": None, "finding": "run.hang"}, False),
        ({"finding": None}, False),
        ({"status": "interrupted"}, False),
        ({"outcome": Outcome.PARTIAL}, False),
        ({"outcome": None}, False),
        ({"steps": None}, True),
        ({"setup": {}}, True),
        ({"finding": "of.another.version", "findings": ()}, True),
    ],
)
def test_what_is_known_of_the_failure_decides(changes: dict[str, Any], is_remembered: bool) -> None:
    assert (ask([entry(1, failed=True, **changes)]) is not None) is is_remembered


def test_runs_with_a_warning_or_an_interruption() -> None:
    partial = {"outcome": Outcome.PARTIAL, "failed": False, "lr": 0.3}
    assert ask([FAILED[0], entry(9, **partial)]) is None, "it came to its end"
    assert ask([FAILED[0], entry(9, **partial, status="interrupted")]) is not None, "nobody knows"
    assert ask([FAILED[0], entry(9, **partial, findings=("loss.divergence",))]) is not None, "it did the same"


def test_a_batch_that_did_not_fit() -> None:
    failed = entry(1, failed=True, cause="batch_size_too_large", finding="resource.oom", config={"batch_size": 512})
    good = entry(2, failed=False, config={"batch_size": 128})
    found = ask([failed, good], batch_size=1024)
    assert found is not None
    assert (
        "ran out of memory by step 101 (batch_size >= 512 ran out of memory 1 of 1, batch_size <= 128" in found.message
    )
    assert ask([failed, good], batch_size=128) is None


def test_a_failure_seen_before() -> None:
    failed = [entry(3, failed=True, lessons=["clip"]), entry(1, failed=True)]
    child = entry(9, failed=False, lr=0.02, parent=failed[0].run_id)
    found = recall_failure(failed, [child, entry(5, failed=False, lr=0.03)], MEMORY)
    assert found is not None
    assert found.message == (
        "The same failure as in 2 earlier runs, the last one run-3 of 2026-11-01; then it was fixed by lr 0.3 -> 0.02 "
        "in run run-9; lesson: clip."
    )
    assert [row["fixed_by_run_id"] for row in found.runs] == [child.run_id, f"{5:032x}"]
    assert found.runs[0]["lessons"] == ["clip"]
    assert {row["match"] for row in found.runs} == {"failure"}
    assert recall_failure([], [child], MEMORY) is None


def test_only_the_same_line_and_a_later_run_can_be_the_fix() -> None:
    other = entry(9, failed=False, lr=0.02, line="other")
    earlier = entry(0, failed=False, lr=0.02)
    found = recall_failure([entry(1, failed=True)], [other, earlier], MEMORY)
    assert found is not None
    assert found.runs[0]["fixed_by"] is None
    same = recall_failure([entry(1, failed=True)], [entry(2, failed=False)], MEMORY)
    assert same is not None
    assert same.runs[0]["fixed_by"] == "the same values in run run-2"


def test_texts_of_others_are_harmless() -> None:
    lesson = "use \x1b[31mred\x1b[0m\n[bold]<script>alert(1)</script> password=hunter2 \u202e" + "x" * 1000
    hostile = entry(1, failed=True, name="a\x1b]0;b\x07\nc", lessons=[lesson], config={"db_password": "hunter2"})
    for found in (ask([hostile]), recall_failure([hostile], [], MEMORY)):
        assert found is not None
        told = found.message + str(found.runs)
        assert "hunter2" not in told
        assert not any(ord(c) < 32 or ord(c) == 127 or c == "\u202e" for c in found.message)
        assert len(found.message) < 1000


def test_secrets_in_a_configuration_are_no_value_to_compare_or_show() -> None:
    failed = entry(1, failed=True, config={"api_key": "sk-123456789012345"})
    good = entry(2, failed=False, lr=0.03, config={"api_key": "sk-999999999999999"})
    found = ask([failed, good], api_key="sk-other")
    assert found is not None
    assert "sk-" not in str(found)


def test_the_code_is_one_of_the_taxonomy() -> None:
    assert CODE in FINDINGS


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20))
anything = st.dictionaries(st.sampled_from(["lr", "width", "optimizer", "batch_size", "act", "seed"]), scalars)
runs = st.builds(
    lambda hour, failed, config, setup, outcome, status, finding, cause: entry(
        hour, failed=failed, config=config, setup=setup, outcome=outcome, status=status, finding=finding, cause=cause
    ),
    st.integers(0, 50),
    st.booleans(),
    anything,
    st.dictionaries(st.sampled_from(list(SETUP)), scalars),
    st.sampled_from([None, *Outcome]),
    st.sampled_from(["running", "completed", "stopped", "failed", "interrupted"]),
    st.sampled_from([None, "loss.divergence", "loss.no_learning", "run.exception", "x.y"]),
    st.sampled_from([None, "learning_rate_too_high", "too_few_updates", "disk_full", "x"]),
)


@given(st.lists(runs, max_size=8), anything)
def test_whatever_was_recorded_it_is_one_safe_sentence_or_silence(entries: list[RunEntry], config: Any) -> None:
    found = recall(values_of(config, SETUP, MEMORY), entries, MEMORY)
    if found is not None:
        assert found.evidence["earlier_failures"] >= 1.0
        assert MEMORY.similar_share - 1e-6 <= found.evidence["similar_share"] <= 1.0
        assert 1 <= len(found.runs) <= 5
        assert found.message.endswith(".")
        assert "\n" not in found.message
        assert {row["run_id"] for row in found.runs} <= {e.run_id for e in entries if e.failed}
