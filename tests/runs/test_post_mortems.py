from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failguard.core.diagnosis import Cause, Diagnosis
from failguard.core.finding import Finding, Severity, Status
from failguard.core.observation import ExceptionFacts
from failguard.core.run_info import RunInfo
from failguard.errors import InputError
from failguard.report.run_report import ActionTaken, Progress, RunReport
from failguard.runs.classification import Classification
from failguard.runs.entry import Note, RunEntry
from failguard.runs.post_mortem_apply import NewNote, notes_to_write
from failguard.runs.post_mortem_edits import Edits, read_edits, read_file
from failguard.runs.post_mortems import HEADINGS, Item, PostMortem, post_mortem_of

Make = Callable[..., RunEntry]
MakeNote = Callable[..., Note]

DIVERGED = {"finding": "loss.divergence", "cause": "learning_rate_too_high", "fingerprint": "A"}
FINDING = Finding("loss.divergence", Severity.ERROR, 40, 0, "The loss rose to 900.")


@pytest.fixture
def report() -> RunReport:
    return RunReport(
        run=RunInfo("r1", "2026-01-06T00:00:00+00:00", framework="torch", run_name="lr 0.3"),
        status=Status.STOPPED,
        findings=[Finding("gradient.exploding", Severity.WARNING, 30, 0, "The gradients grow."), FINDING],
        root=FINDING,
        diagnosis=Diagnosis(
            "The loss diverged.",
            (
                Cause("learning_rate_too_high", 0.8, ("the loss grew 90 times",), "Use a rate of 0.03.", {"lr": 0.3}),
                Cause("unscaled_inputs", 0.2, ("against: the inputs look scaled",), "Scale the inputs."),
            ),
        ),
        actions=[ActionTaken("stop", 99, 0, "loss.divergence at error")],
        progress=Progress(steps=100, optimizer_steps=100, epochs=1, planned_steps=1000, duration_s=50.0),
        seen_after_s={"gradient.exploding": 15.0, "loss.divergence": 20.0},
        best={"monitor": "val_loss", "value": 0.5, "epoch": 0},
    )


@pytest.fixture
def failed(run: Make) -> RunEntry:
    return run(
        "f" * 32, "f", 24, config={"lr": 0.3, "optimizer": "sgd"}, watched=True, **DIVERGED, detected_after_s=20.0,
        name="lr 0.3", user="ada", used_h=0.5, wasted_h=0.25, saved_h=4.5, planned_steps=1000, steps=100,
        hypothesis="a higher rate is faster",
    )  # fmt: skip


@pytest.fixture
def others(run: Make, lesson: MakeNote) -> list[RunEntry]:
    taught = (lesson("never lr>=0.3"),)
    return [
        run("e" * 32, "f", 0, config={"lr": 0.4, "optimizer": "sgd"}, **DIVERGED, line="older", notes=taught),
        run("d" * 32, "s", 5, config={"lr": 0.04, "optimizer": "sgd"}, line="older"),
        run("c" * 32, "s", 48, config={"lr": 0.03, "optimizer": "sgd"}),
        run("b" * 32, "f", 1, finding="loss.spike", cause="corrupted_batch"),
    ]


def test_it_is_filled_in_from_facts(failed: RunEntry, others: list[RunEntry], report: RunReport) -> None:
    found = post_mortem_of(failed, others, report)
    text = found.to_markdown()
    assert found.similar == ("e" * 32,)
    assert found.classification is not None
    assert found.classification.kind == "wasteful"
    for heading in HEADINGS:
        assert text.count(f"\n## {heading}\n") == 1
    for fact in (
        "# Post-Mortem: lr 0.3",
        "Stopped at step 99 of 1,000 planned: loss.divergence.",
        "Hypothesis: a higher rate is faster",
        "2026-01-06 00:00:00 UTC: the run started.",
        "2026-01-06 00:00:20 UTC (+20 s): loss.divergence was seen at step 40 (error, the root of what followed).",
        "(+15 s): gradient.exploding was seen at step 30 (warning).",
        "Compute: 30 min used, 15 min wasted after the last weights worth keeping, 4.5 h of the plan saved.",
        "Likely cause: learning\\_rate\\_too\\_high (confidence 80 %): the loss grew 90 times.",
        "Or: unscaled\\_inputs (confidence 20 %)",
        "Values involved: lr = 0.3.",
        "It happened before, with the same fingerprint: run eeeeeeee on 2026-01-05; run dddddddd of that line of work "
        "then succeeded with lr=0.04 (before: 0.4). Lesson: never lr\\>=0.3.",
        "The check loss.divergence noticed it 20 s after the start, at step 40 of 1,000 planned.",
        "Training was stopped at step 99.",
        "val\\_loss reached 0.5, in epoch 0.",
        "1. Use a rate of 0.03.",
        "2. Look at run dddddddd, which fixed the same failure: lr=0.04 (before: 0.4).",
        'Use policy="strict": it stops on the first error, here loss.divergence at step 40, 59 steps before',
        "failguard runs list --cause learning\\_rate\\_too\\_high",
        "- Known from run eeeeeeee, and true again: never lr\\>=0.3",
        "- lr=0.3 led to loss.divergence by step 40 (learning rate too high).",
        "- Run cccccccc of the same line of work then succeeded with lr=0.03 (before: 0.3).",
    ):
        assert fact in text, fact
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["classification"]["kind"] == "wasteful"


def test_the_lessons_it_proposes_can_be_judged(failed: RunEntry, others: list[RunEntry], report: RunReport) -> None:
    from failguard.runs.lessons import changes_in

    texts = [item.text for item in post_mortem_of(failed, others, report).lessons]
    assert [str(c) for text in texts for alternative in changes_in(text) for c in alternative] == [
        "lr<0.3",
        "lr=0.3",
        "lr=0.03",
    ]


def test_nobody_is_named(run: Make, lesson: MakeNote, report: RunReport) -> None:
    entry = run(
        "f" * 32, "f", 0, name="ada-lr-0.3", user="ada", tags={"failguard.tag.member": "Grace Hopper"}, **DIVERGED,
        hypothesis="Ada thinks that adam helps", setup={"optimizer": "Adam"},
        notes=(lesson("ask ada@example.org or linus first", author="linus"),),
    )  # fmt: skip
    raised = ExceptionFacts(
        "ValueError", "no /home/eve/data.csv, Grace Hopper", "", "C:\\Users\\eve\\t.py:3 in f", False
    )
    text = post_mortem_of(entry, [], replace(report, exception=raised)).to_markdown()
    for name in ("ada", "eve", "Grace", "linus"):
        assert not re.search(rf"\b{name}\b", text, re.IGNORECASE), name
    assert "someone thinks that adam helps" in text
    assert "\\~/data.csv" in text
    adam = run("a" * 32, "f", 0, user="adam", setup={"optimizer": "Adam"}, hypothesis="adam helps", **DIVERGED)
    assert "Hypothesis: adam helps" in post_mortem_of(adam, []).to_markdown()  # a word, not a person


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        ("s", {}, "Nothing failed: there is nothing to mourn."),
        ("r", {}, "It is too early to say: the run has not ended."),
        ("u", {"status": "completed"}, "Not known: failguard did not watch the run."),
        ("f", {"watched": False, "status": "failed"}, "Not known: nothing was recorded about the reason."),
        ("f", {"error_type": "ValueError", "status": "failed"}, "Training raised ValueError; more is not known."),
        ("p", {"status": "interrupted"}, "The run was interrupted; nothing else was found."),
        ("p", {"finding": "loss.plateau"}, "loss.plateau."),
    ],
)
def test_runs_of_every_kind(run: Make, kind: str, values: dict[str, object], said: str) -> None:
    found = post_mortem_of(run("f" * 32, kind, 0, **values), [])
    assert said in found.root_cause[0]
    assert read_edits(found.to_markdown()).run_id == "f" * 32
    if kind != "f":
        assert found.classification is None


# Reading back in


def edited(entry: RunEntry, *changes: tuple[str, str]) -> Edits:
    text = post_mortem_of(entry, []).to_markdown()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return read_edits(text)


def applied(entry: RunEntry, notes: list[NewNote]) -> RunEntry:
    """The run as the registry would have it."""
    made = [
        Note(f"new{len(entry.notes) + i}", n.kind, n.text, "eve", entry.started_at, n.replaces)
        for i, n in enumerate(notes)
    ]
    return replace(entry, notes=(*entry.notes, *made))


def test_applied_as_it_is_and_a_second_time(failed: RunEntry, others: list[RunEntry], report: RunReport) -> None:
    found = post_mortem_of(failed, others, report)
    edits = read_edits(found.to_markdown())
    notes = notes_to_write(edits, failed)
    assert [n.text for n in notes if n.kind == "lesson"] == [item.text for item in found.lessons]
    assert [n.text for n in notes if n.kind == "next_step"] == [item.text for item in found.action_items]
    assert notes[-1].kind == "classification"
    assert notes[-1].text.startswith("wasteful: Run eeeeeeee had failed")
    after = applied(failed, notes)
    assert notes_to_write(edits, after) == []
    again = post_mortem_of(after, others, report)  # now they are notes, with their marks
    assert all(item.note_id for item in (*again.lessons, *again.action_items))
    assert "**Classification**: wasteful\n" in again.to_markdown()
    assert notes_to_write(read_edits(again.to_markdown()), after) == []


def test_edits_become_versions(run: Make, lesson: MakeNote) -> None:
    entry = run("f" * 32, "f", 0, **DIVERGED, notes=(lesson("use lr=0.1", 1), lesson("clip", 2, kind="next_step")))
    edits = edited(
        entry, ("use lr=0.1", "use lr=0.03"), ("productive (proposed)", "system"), ("1. clip", "1. [x] clip all")
    )
    notes = notes_to_write(edits, entry)
    assert NewNote("lesson", "use lr=0.03", "n1") in notes
    assert NewNote("next_step", "clip all", "n2") in notes
    assert [n.text.partition(":")[0] for n in notes if n.kind == "classification"] == ["system"]
    after = applied(entry, notes)
    assert notes_to_write(edits, after) == []
    assert after.lessons == ("use lr=0.03",)
    # Someone applies the file before the edit: what others wrote since stays.
    assert notes_to_write(edited(entry), after) == []
    # And one who edited the old version replaces the newest.
    other = edited(entry, ("use lr=0.1", "use lr=0.01"))
    (version,) = (n for n in notes_to_write(other, after) if n.kind == "lesson")
    newest = next(n.id for n in after.notes if n.text == "use lr=0.03")
    assert version == NewNote("lesson", "use lr=0.01", newest)


def test_a_line_that_is_gone_stays_and_one_that_is_empty_is_taken_back(run: Make, lesson: MakeNote) -> None:
    entry = run("f" * 32, "f", 0, notes=(lesson("a", 1), lesson("b", 2)))
    edits = edited(entry, ("- a <!-- note n1 -->\n", ""), ("- b <!-- note n2 -->", "- <!-- note n2 -->"))
    assert notes_to_write(edits, entry) == [NewNote("lesson", "", "n2")]


def test_items_as_people_write_them(failed: RunEntry) -> None:
    text = (
        "<!-- failguard post-mortem 1, run " + "f" * 32 + " -->\r\n"
        "CLASSIFICATION: Productive.\r\n\r\n"
        "### action items ###\r\n* [ ] first\r\n  goes on\r\n\r\n2) second \\* thing\r\n"
        "<!-- not\r\n- this -->\r\n+ third\r\n"
        "## Remarks of ours\nfree text\n- and a list\n# Lessons\n- use `lr`=0.03\n- \n"
    )
    edits = read_edits(text)
    assert [(i.kind, i.text) for i in edits.items] == [
        ("next_step", "first goes on"),
        ("next_step", "second * thing"),
        ("next_step", "third"),
        ("lesson", "use `lr`=0.03"),
        ("lesson", ""),
    ]
    assert (edits.classification, edits.reason) == ("productive", "")
    assert len(notes_to_write(edits, failed)) == 5


HEAD = f"<!-- failguard post-mortem 1, run {'f' * 32} -->\n"
BOTH = "## Action Items\n## Lessons for Team\n"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no post-mortem of failguard"),
        ("# Post-Mortem\n" + BOTH, "no post-mortem of failguard"),
        (HEAD.replace("mortem 1", "mortem 2") + BOTH, "newer failguard"),
        (HEAD + "## Action Items\n- a\n", "section 'Lessons for Team' is missing"),
        (HEAD + "## Lessons for Team\n", "section 'Action Items' is missing"),
        (HEAD + BOTH + "## Lessons\n", "Line 4 is a second section"),
        (HEAD + "## Action Items\nSomebody should look.\n## Lessons\n", "Line 3 is no item of a list"),
        (HEAD + BOTH + "**Classification**: stupid\n", "Line 4 has the classification 'stupid'"),
        (HEAD + "Classification: system\nClassification: wasteful\n" + BOTH, "Line 3 is a second classification"),
        (HEAD + BOTH + "- a <!-- note n1\n", "Line 4 begins a comment that does not end"),
        (HEAD + BOTH + "- a <!-- note n1 -->\n- b <!-- note n1 -->\n", "note n1 is there twice"),
        (HEAD + BOTH + "- a <!-- note n1 --> b <!-- note n2 -->\n", "Line 4 has the marks of several notes"),
        (HEAD + "<<<<<<< HEAD\n" + BOTH, "Line 2 is the mark of a merge conflict"),
        (HEAD + BOTH + "- " + "x" * 5_000 + "\n", "Line 4 is longer than 4,000"),
        (HEAD + BOTH + "- x\n" * 300, "300 items"),
        (HEAD + BOTH + "- \ue000n1\ue001 x\n", "characters that no text has"),
    ],
)
def test_what_is_not_understood_is_refused_as_a_whole(text: str, word: str) -> None:
    with pytest.raises(InputError, match=word.replace("(", "\\(")):
        read_edits(text)


def test_files_that_do_not_fit(failed: RunEntry, tmp_path: object) -> None:
    from pathlib import Path

    with pytest.raises(InputError, match="of run eeeeeeeeeeee, not of ffffffffffff"):
        notes_to_write(read_edits(HEAD.replace("f" * 32, "e" * 32) + BOTH), failed)
    with pytest.raises(InputError, match="Line 4 has the mark of note n7, which is none of the run's"):
        notes_to_write(read_edits(HEAD + BOTH + "- a <!-- note n7 -->\n"), failed)
    path = Path(str(tmp_path)) / "pm.md"
    with pytest.raises(InputError, match="cannot be read"):
        read_file(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read_file(path)
    path.write_bytes(b"x" * 1_000_001)
    with pytest.raises(InputError, match="longer than a post-mortem"):
        read_file(path)
    path.write_text("\ufeff" + HEAD + BOTH, encoding="utf-8")
    assert read_file(path).items == ()


@pytest.mark.parametrize("part", ["<!--", "# # ", "- ", "**Classification**: ", "<!-- note ", " ", "\\", "1. [x] "])
def test_hostile_files_take_no_time(part: str) -> None:
    text = HEAD + BOTH + part * (900_000 // len(part))
    with contextlib.suppress(InputError):
        assert read_edits(text).run_id == "f" * 32


def test_secrets_do_not_become_notes(failed: RunEntry) -> None:
    edits = read_edits(HEAD + BOTH + "- the password=hunter2 was wrong\n")
    assert "hunter2" not in notes_to_write(edits, failed)[0].text


LINES = st.text(st.characters(exclude_categories=["Cs", "Co"]), min_size=1, max_size=60)


@settings(deadline=None)
@given(st.lists(LINES, max_size=4), st.lists(LINES, max_size=4), LINES)
def test_any_text_comes_back(actions: list[str], lessons: list[str], title: str) -> None:
    from failguard.runs.post_mortems import plain_line

    found = PostMortem(
        "f" * 32, plain_line(title), Classification("system", plain_line(title)), (plain_line(title),), (), (),
        tuple(Item(t) for t in map(plain_line, actions) if t),
        tuple(Item(t, f"n{i}") for i, t in enumerate(map(plain_line, lessons)) if t),
    )  # fmt: skip
    edits = read_edits(found.to_markdown())
    from failguard.core.redaction import redact_text

    assert [i.text for i in edits.items if i.kind == "next_step"] == [redact_text(i.text) for i in found.action_items]
    assert [(redact_text(i.text), i.note_id) for i in found.lessons] == [
        (i.text, i.note_id) for i in edits.items if i.kind == "lesson"
    ]
    assert edits.classification == "system"
