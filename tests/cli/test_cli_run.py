from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HUNGRY = "import time; x = bytearray(150 << 20); x[::4096] = bytes(len(x[::4096])); time.sleep(0.5); print('done')"


def failguard(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "failguard", *words], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_command_is_run_and_measured(tmp_path: Path) -> None:
    summary = tmp_path / "summary.json"
    done = failguard(
        "run", "--interval-s", "0.1", "--max-memory-increase-mb", "20", "--json", str(summary), "--", sys.executable,
        "-c", HUNGRY,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout == "done\n", "the command's own output stays what it is"
    assert "ended with exit code 0" in done.stderr
    assert "Memory of the process" in done.stderr
    assert "max_memory_increase_mb=20" in done.stderr
    found = json.loads(summary.read_text())
    assert found["process_rss_bytes"]["peak"] > 140e6
    assert found["bill"]["hours"] == pytest.approx(found["duration_s"] / 3600)
    assert "gpus" not in found["bill"]


def test_options_of_the_command_are_its_own_and_so_is_its_exit_code() -> None:
    done = failguard("run", sys.executable, "-c", "import sys; print(sys.argv[1:]); sys.exit(3)", "--name", "-x")
    assert done.stdout == "['--name', '-x']\n"
    assert done.returncode == 3


def test_a_command_that_does_not_exist() -> None:
    done = failguard("run", "--", "no-such-command-anywhere")
    assert done.returncode == 127
    assert "cannot be run" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_command_and_with_a_bad_limit() -> None:
    assert failguard("run").returncode == 2
    done = failguard("run", "--max-duration-s", "-1", "--", "true")
    assert done.returncode == 2
    assert "max_duration_s" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_it_is_told_to_end_and_says_so() -> None:
    code = "import time; print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-m", "failguard", "run", "--", sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "ended with exit code 143" in errors
