"""The command line as a whole: exit codes, one line of error, pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from failguard import __version__
from failguard.cli import app as app_module
from failguard.cli.app import app
from failguard.errors import FailGuardError

COMMANDS = ("demo", "doctor", "analyze", "report", "runs", "explain", "sync")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "failguard", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
        check=False,
    )


def test_help_names_every_command() -> None:
    for arguments in (["--help"], []):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0
        assert all(name in result.output for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"failguard {command}" in result.output


def test_version() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"failguard {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["--bogus"], "No such option: --bogus"),
        (["analyze"], "Missing argument"),
        (["analyze", "a.csv", "--per", "batch"], "'batch' is not one of"),
        (["analyze", "a.csv", "--fail-on", "info"], "'info' is not one of"),
        (["analyze", "nope.csv"], "does not exist"),
        (["analyze", "log"], "no id of an MLflow run"),
        (["report", "nope"], "There are no records"),
        (["explain", "nope"], "`failguard explain` lists all codes"),
        (["demo", "--framework", "theano"], "'theano' is not one of"),
        (["sync"], "record directory"),
    ],
)
def test_errors_are_one_line_on_stderr(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("failguard: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("failguard.demo.run_demo", broken)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (FailGuardError("no framework"), 2, "no framework"),
        (PermissionError(13, "Permission denied", "/x"), 2, "'/x': Permission denied"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_expected_errors_show_no_traceback(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    pytest.importorskip("failguard.demo")
    raising(monkeypatch, error)
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_a_defect_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, ZeroDivisionError("a bug"))
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 2  # 1 is a check that failed
    assert "ZeroDivisionError: a bug" in result.stderr


def test_the_demo_gets_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, object]] = []
    monkeypatch.setattr("failguard.demo.run_demo", lambda **keywords: calls.append(keywords))
    assert CliRunner().invoke(app, ["demo"]).exit_code == 0
    assert CliRunner().invoke(app, ["demo", "--framework", "keras", "--directory", "x"]).exit_code == 0
    assert calls == [
        {"frameworks": ("lightning", "keras"), "directory": Path("failguard_demo")},
        {"frameworks": ("keras",), "directory": Path("x")},
    ]


def test_messages_are_one_line() -> None:
    with pytest.raises(SystemExit):
        app_module._fail("two\nlines\x1b[31m", 2)


@pytest.mark.slow
def test_as_a_module_and_as_a_script() -> None:
    assert run("--version").stdout == f"failguard {__version__}\n"
    script = Path(sys.executable).with_name("failguard")
    if script.exists():
        assert subprocess.run([script, "--version"], capture_output=True, timeout=60, check=True).stdout


@pytest.mark.slow
def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['failguard', '--help']\n"
        "from failguard.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'rich', 'numpy', 'psutil', 'mlflow', 'jinja2', 'matplotlib', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, stdout=subprocess.DEVNULL)


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_a_reader_that_leaves_is_no_error(unbuffered: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        result = subprocess.run(
            [sys.executable, "-m", "failguard", "explain"],
            stdout=write_end,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            check=False,
        )
    finally:
        os.close(write_end)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.slow
def test_a_terminal_without_unicode(tmp_path: Path) -> None:
    (tmp_path / "é.csv").write_text("loss\n1\n2\n", encoding="utf-8")
    result = run("analyze", str(tmp_path / "é.csv"), PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert result.returncode == 0, result.stderr
