from __future__ import annotations

import threading
import time
from collections.abc import Mapping

import pytest

from failguard.resources import stacks as stacks_module
from failguard.resources.hang_watch import HangWatch
from failguard.resources.stacks import place_of, signature, thread_stacks, worker_states


class Watched:
    """A watch with a quick pace, and what it said."""

    def __init__(self, deal_with_it: bool = True) -> None:
        self.beat = 0
        self.said: list[dict[str, float]] = []
        self.heard = threading.Event()
        self._answer = deal_with_it
        self.watch = HangWatch(lambda: self.beat, self._on_pause)
        self.watch.look_every_s = self.watch.quiet_s = 0.05
        self.watch.start()

    def _on_pause(self, values: Mapping[str, float]) -> bool:
        self.said.append(dict(values))
        self.heard.set()
        return self._answer


def test_a_pause_is_told_once_and_the_next_one_again() -> None:
    watched = Watched()
    assert watched.heard.wait(20)
    time.sleep(0.3)
    assert len(watched.said) == 1
    watched.heard.clear()
    watched.beat += 1
    assert watched.heard.wait(20)
    watched.watch.stop()
    assert len(watched.said) == 2
    assert watched.said[1]["longest_pause_s"] >= watched.said[0]["idle_s"]


def test_while_the_run_moves_nothing_is_said() -> None:
    watched = Watched()
    watched.watch.quiet_s = 5.0
    for _ in range(40):
        watched.beat += 1
        time.sleep(0.01)
    watched.watch.stop()
    assert watched.said == []


def test_standing_still_is_measured_from_the_last_move() -> None:
    watched = Watched(deal_with_it=False)
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        sum(range(100))
        sorted(range(100))
    time.sleep(0.6)  # in one place
    watched.watch.stop()
    assert watched.said[-1]["idle_s"] > watched.said[-1]["still_s"]
    assert max(v["still_s"] for v in watched.said) > 0.3


def test_an_error_of_the_listener_ends_the_thread_quietly(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(values: Mapping[str, float]) -> bool:
        raise RuntimeError("mine")

    watch = HangWatch(lambda: 0, broken)
    watch.look_every_s = watch.quiet_s = 0.05
    watch.start()
    assert watch._thread is not None
    watch._thread.join(20)
    assert capsys.readouterr().err == ""
    watch.stop()


def test_stacks_name_threads_and_leave_out_our_own() -> None:
    stop = threading.Event()

    def waiting_here() -> None:
        stop.wait(30)

    thread = threading.Thread(target=waiting_here, name="loader")
    own = threading.Thread(target=waiting_here, name="failguard-sampler")
    thread.start()
    own.start()
    try:
        time.sleep(0.05)
        stacks = thread_stacks(threading.get_ident())
        assert next(iter(stacks)) == threading.current_thread().name
        assert "waiting_here" in stacks["loader"]
        assert "failguard-sampler" not in stacks
        assert thread.ident is not None
        assert signature(thread.ident) == signature(thread.ident)
        assert "threading.py" in (place_of(thread.ident) or "")
    finally:
        stop.set()
        thread.join()
        own.join()
    assert signature(thread.ident) == ()
    assert place_of(-1) is None


@pytest.mark.parametrize(
    ("files", "at_prompt"),
    [
        ([], True),
        (["/lib/selectors.py", "/lib/asyncio/base_events.py", "/site-packages/ipykernel/kernelapp.py"], True),
        (["/lib/selectors.py", "/tmp/ipykernel_12/345.py", "/site-packages/ipykernel/kernelapp.py"], False),
        (["/lib/threading.py", "<ipython-input-3>", "/site-packages/IPython/core/interactiveshell.py"], False),
        (["/lib/threading.py", "/home/me/train.py"], False),
    ],
)
def test_a_notebook_between_two_cells_does_not_hang(
    monkeypatch: pytest.MonkeyPatch, files: list[str], at_prompt: bool
) -> None:
    monkeypatch.setattr(stacks_module, "signature", lambda ident: tuple((file, 1) for file in files))
    assert stacks_module.is_at_prompt(1) is at_prompt


def test_workers_are_named_with_their_state() -> None:
    import subprocess
    import sys

    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)"])
    try:
        time.sleep(0.3)
        (state,) = [w for w in worker_states() if w["pid"] == child.pid]
        assert state["state"] in ("sleeping", "running", "disk-sleep")
        assert state["cpu_s"] >= 0
    finally:
        child.kill()
        child.wait()
