from __future__ import annotations

import importlib.metadata
import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from failguard.cli.app import app
from failguard.sinks.mlflow_read import check_store

STORE = "sqlite:///store.db"


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", STORE)


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", *arguments])


def checks() -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(doctor("--json").stdout)["checks"]}


def versions(monkeypatch: pytest.MonkeyPatch, **installed: str | None) -> None:
    """Let other versions seem installed; ``None`` is not installed."""
    real = importlib.metadata.version

    def version(name: str) -> str:
        key = name.replace("-", "_")
        if key not in installed:
            return real(name)
        value = installed[key]
        if value is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return value

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_a_sound_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    result = doctor()
    assert result.exit_code == 0, result.stdout
    assert "Nothing is broken." in result.stdout
    assert json.loads(doctor("--json").stdout)["ok"] is True
    assert not Path("store.db").exists(), "looking makes nothing"
    assert not Path("failguard_runs").exists()


@pytest.mark.parametrize(
    ("installed", "name", "remedy"),
    [
        ({"lightning": "2.6.2"}, "lightning", "lightning!=2.6.2"),
        ({"pytorch_lightning": "2.6.3"}, "pytorch-lightning", "!=2.6.3"),
        ({"lightning": "2.6.6", "torch": None}, "lightning", "pip install torch"),
        ({"keras": "2.15.0"}, "keras", "keras>=3"),
        ({"keras": "3.5.0", "torch": None, "tensorflow": None, "jax": None}, "keras", "tensorflow"),
        ({"psutil": None}, "dependencies", "pip install failguard-ml"),
    ],
)
def test_broken_software_is_named(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str | None], name: str, remedy: str
) -> None:
    versions(monkeypatch, **installed)
    result = doctor()
    assert result.exit_code == 2
    assert name in result.stdout.splitlines()[-1]
    found = checks()[name]
    assert found["state"] == "broken"
    assert remedy in found["remedy"]


def test_without_frameworks_it_only_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    none = dict.fromkeys(("torch", "lightning", "pytorch_lightning", "keras", "tensorflow", "jax"))
    versions(monkeypatch, **none)
    found = checks()
    assert found["frameworks"]["state"] == "warning"
    assert found["torch"]["state"] == "absent"
    assert doctor().exit_code == 0


def test_a_record_folder_that_cannot_be_written() -> None:
    Path("file").write_text("")
    result = doctor("--record-dir", "file/runs")
    assert result.exit_code == 2
    assert "record folder" in result.stdout
    assert "Set record_dir" in result.stdout


def test_a_disabled_guard_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILGUARD_DISABLE", "1")
    assert checks()["FAILGUARD_DISABLE"]["state"] == "warning"


def test_gpus_and_a_cpu_build_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    from failguard.resources.nvml import Gpu, GpuReadings

    def init(self: GpuReadings) -> None:
        self.gpus, self.problem, self._nvml, self._health = [Gpu(0, "NVIDIA H200", None)], None, None, []

    monkeypatch.setattr(GpuReadings, "__init__", init)
    monkeypatch.setattr(
        GpuReadings, "read", lambda self: [{"memory_used_bytes": 2.0**30, "memory_total_bytes": 2.0**37}]
    )
    versions(monkeypatch, torch="2.9.0+cpu")
    found = checks()
    assert found["gpu 0"]["detail"] == "NVIDIA H200, 1.0 of 128.0 GiB used"
    assert "CPU build" in found["torch devices"]["detail"]


def test_a_store_that_does_not_exist_yet_and_one_that_does() -> None:
    check = check_store(STORE)
    assert check.usable
    assert "made with the first run" in check.detail
    with sqlite3.connect("store.db") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num)")
    assert check_store(STORE).detail == "is an MLflow database"


def test_stores_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("store.db").write_text("no database, but long enough to be looked at as one" * 10)
    broken = {
        STORE: "is no MLflow database",
        "sqlite:///no/such/folder/store.db": "does not exist",
        "http://127.0.0.1:9/": "does not answer",
        "file:./mlruns": "file store",
        "mlruns": "file store",
    }
    for uri, detail in broken.items():
        check = check_store(uri)
        assert not check.usable, uri
        assert detail in check.detail
        assert check.remedy
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert doctor().exit_code == 2
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    Path("mlruns").mkdir()
    assert check_store("mlruns").usable


def test_passwords_of_a_store_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:hunter2hunter2@127.0.0.1:9/")
    result = doctor()
    assert "127.0.0.1" in result.stdout
    assert "hunter2" not in result.stdout + result.stderr


@pytest.mark.slow
def test_no_framework_is_imported() -> None:
    code = (
        "import sys\n"
        "from failguard.cli.checks import run_checks\n"
        "run_checks('failguard_runs')\n"
        "heavy = {'torch', 'tensorflow', 'keras', 'lightning', 'jax'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
