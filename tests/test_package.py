"""What importing does, and what the package promises about itself."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import failguard

ROOT = Path(__file__).parents[1]
HEAVY = {
    *("torch", "lightning", "pytorch_lightning", "tensorflow", "keras", "jax"),
    *("mlflow", "sqlalchemy", "alembic", "numpy", "pandas", "sklearn", "scipy", "matplotlib"),
    *("rich", "typer", "jinja2", "psutil", "pynvml"),
}


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys, threading\nprint(*sys.modules)\nassert threading.active_count() == 1"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    return set(done.stdout.split())


def test_importing_failguard_loads_no_framework_and_nothing_heavy() -> None:
    assert not loaded_after("import failguard") & HEAVY


@pytest.mark.parametrize("module", ["failguard.adapter", "failguard.analysis", "failguard.cli"])
def test_the_core_and_the_command_line_load_no_framework(module: str) -> None:
    frameworks = {"torch", "lightning", "pytorch_lightning", "tensorflow", "keras", "jax", "mlflow", "matplotlib"}
    assert not loaded_after(f"import {module}") & frameworks


def test_every_public_name_exists() -> None:
    for name in failguard.__all__:
        assert getattr(failguard, name) is not None
    assert set(failguard.__all__) <= set(dir(failguard))
    with pytest.raises(AttributeError, match="no_such_name"):
        failguard.no_such_name  # noqa: B018


def test_analyze_stays_a_function_whatever_is_imported() -> None:
    code = "import failguard, failguard.analysis; assert callable(failguard.analyze)"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_the_distribution_is_declared_as_agreed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "failguard-ml"
    assert project["license"] == "Apache-2.0"
    assert set(project["optional-dependencies"]) == {
        *("lightning", "keras", "data", "serve", "alerts", "tensorboard", "all"),
    }
    (lightning,) = (d for d in project["optional-dependencies"]["lightning"] if d.startswith("lightning"))
    assert "!=2.6.2" in lightning
    assert "!=2.6.3" in lightning
    assert (ROOT / "LICENSE").read_text().lstrip().startswith("Apache License")


@pytest.mark.slow
def test_the_built_wheel_carries_what_the_package_needs(tmp_path: Path) -> None:
    """Schema, templates and the type marker are in the wheel; tests and benchmarks are not."""
    import zipfile

    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, timeout=120, capture_output=True)
    (wheel,) = tmp_path.glob("failguard_ml-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in ("py.typed", "report/failure_analysis.schema.json", "cli/__init__.py"):
        assert f"failguard/{needed}" in names
    assert any(n.endswith(".j2") for n in names)
    assert all(n.startswith(("failguard/", "failguard_ml-")) for n in names)
