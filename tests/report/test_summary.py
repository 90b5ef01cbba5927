from __future__ import annotations

import pytest

from failguard.core.finding import Finding, Severity, Status, Where
from failguard.core.run_info import RunInfo
from failguard.report.run_report import ActionTaken, Progress, RunReport
from failguard.report.summary import duration, one_line, percent, place, summarize


def test_a_failing_run(failing):
    summary = summarize(failing)
    assert summary.tone == "failing"
    assert summary.headline == "Stopped at step 52 of 900 planned: loss.divergence"
    assert [label for label, _ in summary.answers()] == ["What", "Where", "Why", "Done", "What to try"]
    assert summary.where == "loss at batch 40, epoch 0"
    assert summary.why.startswith("Learning rate too high (")
    assert summary.remedy == "Lower the learning rate from 8 to 0.01."
    assert ("Steps", "53 of 900 planned, 847 saved") in summary.numbers
    assert ("Time", "1.4 s used, 1.3 s wasted, 22 s saved") in summary.numbers
    assert any("sink mlflow was switched off" in remark for remark in summary.remarks)


def test_the_share_of_watching_is_told_of_runs_that_are_long_enough(failing):
    assert ("Watching", "0.012 s in all") in summarize(failing).numbers
    failing.progress = Progress(53, 52, 1, 900, 140.0)
    assert any(text.startswith("0.86 % of the time") for _, text in summarize(failing).numbers)


def test_a_healthy_run_is_calm(healthy):
    summary = summarize(healthy)
    assert summary.tone == "calm"
    assert summary.headline == "Completed, nothing wrong"
    assert summary.why == summary.remedy == summary.where == ""


def test_an_early_stop_is_calm(early_stop):
    summary = summarize(early_stop)
    assert summary.tone == "calm"
    assert summary.headline == "Stopped early: val_loss no longer improved"
    assert ("Best", "val_loss 0.6 in epoch 5, weights restored") in summary.numbers
    assert ("Steps", "60 of 100 planned, 40 saved") in summary.numbers


def test_an_exception_names_the_users_line(crashed):
    summary = summarize(crashed)
    assert summary.headline == "Failed at step 0: RuntimeError"
    assert "train.py:12 in forward" in summary.where


@pytest.mark.parametrize(
    ("status", "severity", "headline", "tone"),
    [
        (Status.RUNNING, None, "Running, nothing wrong", "calm"),
        (Status.COMPLETED, Severity.WARNING, "Completed with 1 warning", "warning"),
        (Status.COMPLETED, Severity.ERROR, "Completed, but failing: loss.spike", "failing"),
        (Status.RECOVERED, None, "Recovered, nothing wrong", "calm"),
        (Status.INTERRUPTED, None, "Interrupted at step 6 of 10 planned", "warning"),
        (Status.FAILED, None, "Failed at step 6 of 10 planned", "failing"),
    ],
)
def test_headlines(status, severity, headline, tone):
    found = [] if severity is None else [Finding("loss.spike", severity, 3, 0, "A spike.")]
    report = RunReport(RunInfo("a", "b"), status, found, found[0] if found else None)
    report.progress = Progress(steps=7, planned_steps=10)
    summary = summarize(report)
    assert (summary.headline, summary.tone) == (headline, tone)


def test_one_line_is_safe_to_print():
    assert one_line("a\x1b[31mred\x1b[0m\n\tb\u202ec\x00") == "a [31mred [0m b c"
    assert len(one_line("x" * 10_000)) == 600
    assert one_line("ünïcödé \U0001f600") == "ünïcödé \U0001f600"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0123, "0.012 s"), (9.96, "10 s"), (59, "59 s"), (600, "10 min"), (36_000, "10.0 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_shares():
    assert [percent(s) for s in (0.0, 0.0031, 0.12, 1.0)] == ["0 %", "0.31 %", "12 %", "100 %"]


def test_places():
    finding = Finding("data.non_finite", Severity.ERROR, -1, 0, "x", Where(tensor="input"))
    assert place(finding) == "input, epoch 0"
    finding = Finding("loss.non_finite", Severity.ERROR, 1234, 2, "x", Where("fc", "output", 1234))
    assert place(finding) == "output of fc at batch 1234, epoch 2"


def test_what_was_done_is_said_once(failing):
    act = ActionTaken
    failing.actions = [act("drop_update", i, 0, "x") for i in (3, 4, 9)] + [act("retry_step", 9, 0, "x")]
    assert summarize(failing).done == "The bad update was dropped at step 3 and 2 more times; retry step at step 9."
    failing.actions = []
    assert "Done" not in dict(summarize(failing).answers())


def test_what_earlier_runs_say_comes_last(failing):
    failing.findings.append(Finding("run.repeat_of_failure", Severity.INFO, -1, 0, "3 earlier\nruns did so."))
    assert [*summarize(failing).answers()][-1] == ("Seen before", "3 earlier runs did so.")
