from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from failguard.sinks.store_uri import database_path, normalized, store_uri

SCRIPT = """
import sys
from failguard.sinks.store_uri import store_uri
before = store_uri()
assert "mlflow" not in sys.modules
import mlflow
assert before == mlflow.get_tracking_uri() == store_uri(), (before, mlflow.get_tracking_uri())
mlflow.set_tracking_uri("http://elsewhere:5000")
assert store_uri() == "http://elsewhere:5000"
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["default", "environment", "legacy", "empty legacy"])
def test_it_is_the_store_that_mlflow_itself_would_use(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    elif place == "legacy":
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        Path("mlruns", "0").mkdir(parents=True)
        Path("mlruns", "0", "meta.yaml").write_text("name: Default\n")
    elif place == "empty legacy":
        Path("mlruns", "models").mkdir(parents=True)
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_file_of_an_sqlite_store(tmp_path: Path) -> None:
    assert database_path("sqlite:///a/b.db") == tmp_path / "a" / "b.db"
    assert database_path("sqlite:////a/b.db?timeout=3") == Path("/a/b.db")
    assert database_path("sqlite+pysqlite:////a/b.db") == Path("/a/b.db")
    for uri in ("sqlite://", "sqlite:///:memory:", "postgresql://a/b", "http://a/b.db", "./mlruns", "databricks"):
        assert database_path(uri) is None


def test_one_store_has_one_text(tmp_path: Path) -> None:
    assert normalized("sqlite:///b.db") == normalized(f"sqlite:///{tmp_path}/b.db")
    assert normalized("./mlruns") == normalized((tmp_path / "mlruns").as_uri())
    assert normalized("HTTP://A:5000/") == normalized("http://a:5000")
    assert normalized("https://ada:one@a") == normalized("https://ada:two@a") != normalized("https://alan:one@a")
    assert normalized("databricks://team") == "databricks://team"
    assert normalized("databricks") == "databricks"
    assert store_uri() == f"sqlite:///{tmp_path}/mlflow.db"
