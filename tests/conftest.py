"""Shared fixtures. Containment re-raises, so that it never hides a defect of failguard's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Quiet and small, before any framework is loaded.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

from failguard.core import containment

# What is slow on a busy machine is no failure.
settings.register_profile("failguard", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("failguard")


@pytest.fixture(autouse=True)
def _errors_of_our_own_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containment, "reraise", True)


@pytest.fixture
def contained(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of containment itself: errors are recorded, as for users."""
    monkeypatch.setattr(containment, "reraise", False)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in a folder of its own: records and databases go there."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "MLFLOW_TRACKING_URI",
        "MLFLOW_RUN_ID",
        "MLFLOW_EXPERIMENT_NAME",
        "MLFLOW_EXPERIMENT_ID",
        "FAILGUARD_DISABLE",
    ):
        monkeypatch.delenv(name, raising=False)
    mlflow = sys.modules.get("mlflow")
    if mlflow is not None and hasattr(mlflow, "set_tracking_uri"):
        mlflow.set_tracking_uri(None)  # what a test before this one has set
    monkeypatch.setenv("FAILGUARD_CACHE_DIR", str(tmp_path / "failguard_cache"))
