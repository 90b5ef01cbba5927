from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from failguard.resources import worker_stacks
from failguard.resources.worker_stacks import WorkerStacks

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs real-time signals and /proc"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]


@pytest.fixture
def stacks() -> Iterator[WorkerStacks]:
    found = WorkerStacks()
    found.start()
    yield found
    found.stop()


def sleeping_child(program: list[str] | None = None) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            if program is not None:
                os.execv(program[0], program)
            a_place_to_be_stuck_in()
        finally:
            os._exit(0)
    time.sleep(0.5)
    return pid


def a_place_to_be_stuck_in() -> None:
    time.sleep(30)


def end(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_tells_where_it_is_and_lives_on(stacks: WorkerStacks) -> None:
    pid = sleeping_child()
    try:
        found = stacks.collect([pid])
        assert "a_place_to_be_stuck_in" in found[pid]
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "it still runs"
    finally:
        end(pid)


def test_a_child_that_became_another_program_gets_no_signal(stacks: WorkerStacks) -> None:
    pid = sleeping_child(["/bin/sleep", "30"])
    try:
        assert stacks.collect([pid]) == {}
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the signal would have ended it"
    finally:
        end(pid)


def test_children_of_other_times_are_left_alone() -> None:
    pid = sleeping_child()
    stacks = WorkerStacks()
    stacks.start()
    try:
        assert stacks.collect([pid, 999_999_999]) == {}
    finally:
        stacks.stop()
        end(pid)


def test_nothing_stays_behind(stacks: WorkerStacks) -> None:
    end(sleeping_child())
    folder = worker_stacks._folder
    assert folder is not None
    assert Path(folder).is_dir()
    stacks.stop()
    stacks.stop()
    assert worker_stacks._folder is None
    assert not Path(folder).exists()
