from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from failguard.cli.app import app

BAD = "epoch,train_loss,val_loss\n0,1,1\n1,0.5,0.6\n2,nan,nan\n"
HEALTHY = "epoch,train_loss,val_loss\n0,1,1\n1,0.5,0.6\n2,0.4,0.5\n"


def analyze(content: str, *options: str, name: str = "log.csv") -> Result:
    Path(name).write_text(content)
    return CliRunner().invoke(app, ["analyze", name, *options])


def test_says_what_where_and_why() -> None:
    result = analyze(BAD)
    assert result.exit_code == 0, "findings fail the command only where --fail-on asks for it"
    assert "loss.non_finite" in result.stdout
    assert "The training loss of epoch 2 is nan" in result.stdout
    assert "Read as per='epoch'" in result.stdout


def test_json_is_the_whole_report() -> None:
    report = json.loads(analyze(BAD, "--json").stdout)
    assert report["root"]["code"] == "loss.non_finite"
    assert report["status"] == "failed"


@pytest.mark.parametrize(
    ("content", "fail_on", "code"),
    [(BAD, "error", 1), (BAD, "warning", 1), (HEALTHY, "warning", 0), (HEALTHY, "error", 0)],
)
def test_fail_on(content: str, fail_on: str, code: int) -> None:
    assert analyze(content, "--fail-on", fail_on).exit_code == code


def test_fail_on_error_lets_a_warning_pass() -> None:
    rows = "".join(f"{i},{0.9**i},{0.5 + 0.01 * abs(i - 10)}\n" for i in range(40))
    content = "epoch,train_loss,val_loss\n" + rows
    assert "metric.overfitting" in analyze(content).stdout
    assert analyze(content, "--fail-on", "warning").exit_code == 1
    assert analyze(content, "--fail-on", "error").exit_code == 0


def test_html_is_written_and_stdout_stays_json() -> None:
    result = analyze(BAD, "--json", "--html", "page.html")
    assert json.loads(result.stdout)["status"] == "failed"
    assert "Written: page.html" in result.stderr
    assert "loss.non_finite" in Path("page.html").read_text()


def test_html_that_cannot_be_written() -> None:
    result = analyze(BAD, "--html", "no/such/folder/page.html")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "page.html" in result.stderr


def test_options_reach_the_analysis() -> None:
    result = analyze(
        "loss,val_acc\n1,0.5\n2,0.9\n", "--per", "epoch", "--monitor", "val_acc", "--mode", "max", "--json"
    )
    assert json.loads(result.stdout)["best"]["value"] == 0.9


def test_hostile_names_cannot_steer_a_terminal() -> None:
    content = "epoch,loss,val_[bold]x[/bold]\x1b]0;owned\x07\n0,1,1\n1,1,nan\n"
    result = analyze(content)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout
    assert "[bold]x[/bold]" in result.stdout, "text is not read as markup"
    result = CliRunner().invoke(app, ["analyze", "no\x1b[31m.csv"])
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("columns", ["10", "60", "1000"])
def test_lines_fit_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    widest = max(map(len, analyze(BAD).stdout.splitlines()))
    assert widest <= max(40, min(int(columns), 100))


def test_columns_and_configuration_can_be_given() -> None:
    rows = "".join(f"{i},{2.3 * 1.5**i},{i}\n" for i in range(60))
    options = [
        "--column",
        "train_loss=cost",
        "--per",
        "step",
        "--config",
        "lr=50",
        "--config",
        "optimizer=SGD",
        "--json",
    ]
    report = json.loads(analyze("step,cost,loss\n" + rows, *options, "--json").stdout)
    assert report["root"]["code"] == "loss.divergence"
    assert report["diagnosis"]["causes"][0]["code"] == "learning_rate_too_high"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--column", "cost"], "'cost' is no pair NAME=VALUE"),
        (["--column", "val=loss"], "'val' is no role"),
        (["--column", "val_loss=cost"], "no column 'cost'"),
    ],
)
def test_options_that_cannot_be_used(options: list[str], message: str) -> None:
    result = analyze("epoch,loss\n0,1\n", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_markdown_is_written() -> None:
    analyze(BAD, "--md", "report.md")
    assert "failguard explain" not in Path("report.md").read_text()
    assert "The training loss of epoch 2 is nan" in Path("report.md").read_text()
