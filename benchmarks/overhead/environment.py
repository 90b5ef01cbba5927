"""The machine a result is from, and an interpreter for each other tool."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.detection.peers import Peer
from benchmarks.detection.peers.environments import NotInstallable, python_for
from benchmarks.overhead.watches import NEEDS

__all__ = ["context", "interpreter_for"]

PACKAGES = ("torch", "lightning", "keras", "tensorflow", "mlflow", "numpy")


def context(command: str) -> dict[str, Any]:
    """Hardware, versions, date and load."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}, {os.cpu_count()} CPU cores",
        "python": platform.python_version(),
        "versions": versions,
        "load_at_start": load,
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def interpreter_for(peer: Peer) -> str:
    """The interpreter to run a tool with, its packages installed.

    Raises:
        NotInstallable: It cannot be installed here.
    """
    python = python_for(peer)
    mark = Path(python).parents[1] / "needs.txt"
    needs = NEEDS.get(peer.name, ())
    if not needs or (mark.exists() and mark.read_text() == "\n".join(needs)):
        return python
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", *needs]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        raise NotInstallable(lines[-1].removeprefix("ERROR: "))
    mark.write_text("\n".join(needs))
    return python
