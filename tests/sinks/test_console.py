from __future__ import annotations

import io
import logging
import sys
from contextlib import nullcontext, redirect_stderr
from dataclasses import replace
from typing import TextIO

import pytest

from failguard.core.containment import PartError
from failguard.core.diagnosis import Cause, Diagnosis
from failguard.core.finding import Finding, Severity, Status, Where
from failguard.core.run_info import RunInfo
from failguard.report.run_report import ActionTaken, Progress, RunReport
from failguard.sinks.base import Sink
from failguard.sinks.console import Console


class Terminal(io.TextIOWrapper):
    """A stream that says it is a terminal."""

    def __init__(self, encoding: str = "utf-8", errors: str = "strict") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors=errors)

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def failing(text: str = "The loss rose from 2.27 to 3.1e4.") -> RunReport:
    root = Finding("loss.divergence", Severity.ERROR, 40, 0, text, Where(tensor="loss", batch=40))
    return RunReport(
        RunInfo("20250101-x", "2025-01-01"),
        Status.STOPPED,
        [root],
        root,
        Diagnosis("x", (Cause("learning_rate_too_high", 0.9, (text,), "Lower the learning rate from 0.5 to 0.005."),)),
        progress=Progress(53, 52, 1, 900, 1.4),
        part_errors=[PartError("sink mlflow", "ConnectionError: no answer")],
        locations={"local": "failguard_runs/20250101-x"},
    )


def finish(report: RunReport, stream: TextIO | None = None) -> None:
    """Run the sink, with stderr going to a stream."""
    console = Console()
    console.start(report)
    with redirect_stderr(stream) if stream is not None else nullcontext():
        console.finish(report)


def test_it_is_a_foreground_sink():
    assert isinstance(Console(), Sink)
    assert (Console.name, Console.background) == ("console", False)


def test_a_healthy_run_prints_nothing(capfd, caplog):
    report = RunReport(RunInfo("a", "b"), Status.COMPLETED, progress=Progress(10, 10, 1, 10, 1.0))
    console = Console()
    console.start(report)
    console.progress(report)
    console.finish(report)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_an_early_stop_is_one_line(capfd):
    root = Finding("metric.no_improvement", Severity.INFO, 59, 5, "No better.", Where(tensor="val_loss"))
    report = RunReport(RunInfo("a", "b"), Status.STOPPED, [root], root, progress=Progress(60, 60, 6, 100, 1.0))
    report.best = {"monitor": "val_loss", "value": 0.5, "epoch": 2}
    report.actions = [ActionTaken("restore_best_weights", 59, 5, "x")]
    finish(report)
    out, err = capfd.readouterr()
    assert out == ""
    assert err == (
        "failguard: Stopped early: val_loss no longer improved; steps 60 of 100 planned, 40 saved; best val_loss 0.5 "
        "in epoch 2, weights restored.\n"
    )


def test_an_interrupt_is_one_line(capfd):
    root = Finding("run.interrupted", Severity.WARNING, 5, 0, "Ctrl-C.")
    finish(RunReport(RunInfo("a", "b"), Status.INTERRUPTED, [root], root, locations={"local": "runs/x"}))
    assert capfd.readouterr().err == "failguard: Interrupted at step 0; record runs/x.\n"


def test_without_a_terminal_it_is_plain_text(capfd):
    finish(failing())
    out, err = capfd.readouterr()
    assert out == ""
    for words in (
        "failguard: Stopped at step 52 of 900 planned: loss.divergence",
        "What:        The loss rose from 2.27 to 3.1e4.",
        "Where:       loss at batch 40, epoch 0",
        "Why:         Learning rate too high (90 %)",
        "What to try: Lower the learning rate from 0.5 to 0.005.",
        "Record:      failguard_runs/20250101-x",
        "Note:        sink mlflow was switched off: ConnectionError: no answer",
    ):
        assert words in err
    assert "\x1b" not in err
    assert err.isascii()


def test_on_a_terminal_it_is_a_panel(terminal):
    finish(failing(), terminal)
    shown = terminal.shown
    assert "╭" in shown
    assert "\x1b[31m" in shown
    assert "Lower the learning rate from 0.5 to 0.005." in shown


def test_no_color_is_respected(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    finish(failing(), terminal)
    assert "╭" in terminal.shown
    assert "\x1b[31m" not in terminal.shown


def test_a_dumb_terminal_gets_plain_text(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    finish(failing(), terminal)
    assert "╭" not in terminal.shown
    assert "\x1b" not in terminal.shown
    assert "What to try: Lower" in terminal.shown


@pytest.mark.parametrize("tty", [True, False])
def test_a_stream_that_cannot_encode_loses_characters_only(monkeypatch, tty):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal("ascii")
    if not tty:
        monkeypatch.setattr(stream, "isatty", lambda: False, raising=False)
    finish(failing("Verlust für \U0001f600 stieg"), stream)
    assert "f?r ? stieg" in stream.shown
    assert "Lower the learning rate" in stream.shown


def test_narrow_terminals_wrap(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    finish(failing("x" * 300), terminal)
    lines = terminal.shown.replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[2m", "").splitlines()
    assert max(len(line) for line in lines) <= 40


@pytest.mark.parametrize("text", ["[bold red]x[/]", "[/nope]", ":smile:", "\x1b[2J\x1b]0;title\x07", "a\nb", "{x}", ""])
def test_text_is_never_markup(terminal, text, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    finish(failing(text), terminal)
    shown = terminal.shown
    for control in ("\x1b[2J", "\x1b]0", "\x07"):
        assert control not in shown
    if "[" in text and "\x1b" not in text:
        assert text in shown


@pytest.mark.parametrize("stream", [None, "closed", "broken"])
def test_a_missing_or_broken_stderr_is_survived(monkeypatch, stream):
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    target = None if stream is None else Broken() if stream == "broken" else io.StringIO()
    if stream == "closed":
        target.close()
    monkeypatch.setattr(sys, "stderr", target)
    finish(failing())


def test_warnings_are_said_once_in_the_log(caplog):
    report = failing()
    early = Finding("data.scale", Severity.WARNING, -1, 0, "Feature 3 is unscaled.")
    report.findings = [early, Finding("loss.plateau", Severity.INFO, 3, 0, "Flat."), *report.findings]
    console = Console()
    console.start(report)
    with caplog.at_level(logging.INFO, logger="failguard"):
        console.progress(report)
        console.progress(report)
    messages = [r.getMessage() for r in caplog.records]
    assert messages == [
        "failguard: warning: Feature 3 is unscaled. [data.scale]",
        "failguard: error: The loss rose from 2.27 to 3.1e4. (loss at batch 40, epoch 0) [loss.divergence]",
    ]
    report.findings[0] = replace(early, severity=Severity.ERROR)
    with caplog.at_level(logging.INFO, logger="failguard"):
        console.progress(report)
    assert len(caplog.records) == 3  # it got worse: that is new


def test_a_second_run_starts_afresh(caplog):
    console, report = Console(), failing()
    for _ in range(2):
        console.start(report)
        with caplog.at_level(logging.WARNING, logger="failguard"):
            console.progress(report)
    assert len(caplog.records) == 2


def test_remarks_are_limited(capfd):
    report = failing()
    report.notes = [f"remark {i}" for i in range(50)]
    finish(report)
    err = capfd.readouterr().err
    assert err.count("Note:") == 7
    assert "more remarks are in the record" in err


def test_nothing_heavy_is_imported_before_it_is_needed():
    import subprocess

    code = "import sys, failguard.sinks.console, failguard.diagnosis, failguard.report.html, failguard.report.plots;"
    code += "print([m for m in ('numpy', 'rich', 'jinja2', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_what_the_run_took_is_shown_where_that_was_asked_for(make_report, capsys):
    report = make_report()
    report.resources = {
        "show_table": True,
        "bill": {"hours": 2.0, "cost": 5.0},
        "advice": [{"change": "Use more [red]workers.", "evidence": "61 %."}],
    }
    Console().finish(report)
    shown = capsys.readouterr().err
    assert "what the run took" in shown
    assert "5.00" in shown
    assert "[red]workers" in shown
    del report.resources["show_table"]
    Console().finish(report)
    assert "what the run took" not in capsys.readouterr().err
