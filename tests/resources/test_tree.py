from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from failguard.resources.tree import TreeReadings


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    code = "held = bytearray(40 << 20); held[::4096] = bytes(len(held[::4096])); input()"
    process = subprocess.Popen([sys.executable, "-c", f"print('up', flush=True); {code}"], stdin=-1, stdout=-1)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        assert process.stdin is not None
        process.stdin.close()


def test_children_are_read(child: subprocess.Popen[bytes]) -> None:
    tree = TreeReadings(psutil.Process())
    values = tree.read()
    assert values["child_processes"] >= 1
    assert child.pid in tree.pids
    assert values["tree_rss_bytes"] > values["children_rss_bytes"] > 5e6
    assert values["tree_uss_bytes"] > 1e6


def test_it_costs_its_share_and_no_more() -> None:
    tree = TreeReadings(psutil.Process())
    assert tree.read()
    assert tree.read() == {}, "not again at once"


def test_a_child_that_ends_while_it_is_read_is_left_out(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = psutil.Process()

    def gone(self: psutil.Process) -> object:
        if self.pid != own.pid:
            raise psutil.NoSuchProcess(self.pid)
        return real(self)

    real = psutil.Process.memory_info
    monkeypatch.setattr(psutil.Process, "memory_info", gone)
    values = TreeReadings(own).read()
    assert values["children_rss_bytes"] == 0.0
    assert values["tree_rss_bytes"] > 1e6
