from __future__ import annotations

import getpass
import importlib.metadata
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from failguard import __version__
from failguard.resources import environment
from failguard.resources import environment as _function
from failguard.resources.environment import PACKAGES, package_versions

module = sys.modules["failguard.resources.environment"]


def test_says_what_matters() -> None:
    found = environment()
    assert found["failguard"] == __version__
    assert found["python"].startswith("3.")
    assert found["cpus"] > 0
    assert found["memory_bytes"] > 1e8
    assert found["packages"]["numpy"] == importlib.metadata.version("numpy")
    assert set(found["packages"]) <= set(PACKAGES)
    json.dumps(found, allow_nan=False)


def test_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SECRET", "hunter2hunter2")
    text = json.dumps(environment())
    for private in ("hunter2", socket.gethostname(), str(Path.home()), os.getcwd(), sys.prefix):
        assert private not in text or len(private) < 3
    user = getpass.getuser()
    assert f"/{user}" not in text


def test_packages_that_are_not_installed_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != "torch":
            raise importlib.metadata.PackageNotFoundError(name)
        return "9.9"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert package_versions() == {"torch": "9.9"}


def test_gpu_names_come_from_the_drivers_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NVIDIA_GPUS", tmp_path / "none")
    assert "gpus" not in _function()
    for i, name in enumerate(("NVIDIA H200", "NVIDIA A10")):
        folder = tmp_path / f"0000:0{i}:00.0"
        folder.mkdir()
        (folder / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 1\nGPU UUID: GPU-1\n")
    monkeypatch.setattr(module, "NVIDIA_GPUS", tmp_path)
    assert _function()["gpus"] == ["NVIDIA H200", "NVIDIA A10"]


@pytest.mark.slow
def test_importing_resources_loads_nothing_heavy() -> None:
    code = (
        "import sys, threading, failguard.resources\n"
        "heavy = {'psutil', 'pynvml', 'numpy', 'torch', 'importlib.metadata'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert threading.active_count() == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
