"""Ctrl-C, sys.exit and a killed process: recorded, and passed on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from failguard.core.finding import Status
from failguard.sinks.records import load_record

pytestmark = [pytest.mark.framework, pytest.mark.slow]

PROGRAM = """
import os, signal, sys, threading
import failguard

signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background passes on that it is ignored

def train(config):
    print("training", flush=True)
    if config["how"] == "exit":
        sys.exit(3)
    threading.Event().wait(120)

result = failguard.ExperimentManager("churn").run_experiment("a", "h", {"how": sys.argv[1]}, train)
print("result", result)
"""


def start(how: str) -> subprocess.Popen[str]:
    Path("program.py").write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, "program.py", how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def end(process: subprocess.Popen[str], sent: signal.Signals | None) -> tuple[str, str]:
    if sent is not None:
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"
        process.send_signal(sent)
    return process.communicate(timeout=180)


def the_run(client: Any) -> Any:
    (run,) = client.search_runs([client.get_experiment_by_name("churn").experiment_id])
    return run


@pytest.mark.parametrize(("how", "sent"), [("wait", signal.SIGINT), ("exit", None)])
def test_interrupts_are_recorded_and_passed_on(client: Any, how: str, sent: signal.Signals | None) -> None:
    process = start(how)
    out, err = end(process, sent)
    assert "result" not in out
    if how == "exit":
        assert process.returncode == 3
    else:
        assert "KeyboardInterrupt" in err
        assert process.returncode != 0
    run = the_run(client)
    assert run.info.status == "KILLED"
    assert (run.data.params["outcome"], run.data.params["how"]) == ("interrupted", how)
    assert run.data.params["error_type"] == ("SystemExit" if how == "exit" else "KeyboardInterrupt")
    assert run.data.tags["failguard.outcome"] == "partial"
    (folder,) = (path for path in Path("failguard_runs").iterdir() if path.is_dir())
    assert load_record(folder).status is Status.INTERRUPTED


def test_a_killed_process_leaves_a_record(client: Any) -> None:
    end(start("wait"), signal.SIGKILL)
    run = the_run(client)
    assert (run.info.status, run.data.params["hypothesis"]) == ("RUNNING", "h")
    (folder,) = (path for path in Path("failguard_runs").iterdir() if path.is_dir())
    report = load_record(folder)
    assert report.status is Status.INTERRUPTED
    assert report.run.config == {"how": "wait"}
