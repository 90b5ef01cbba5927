from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from failguard.errors import FailGuardError
from failguard.runs.store import Experiment
from failguard.runs.store_rest import RestReader, is_plain_server

RUN = {
    "info": {
        "run_id": "a" * 32, "run_name": "wider", "experiment_id": "1", "status": "FINISHED",
        "start_time": "1700000000000", "end_time": 1_700_000_060_000,
    },
    "data": {
        "metrics": [{"key": "loss", "value": "NaN", "timestamp": "1700000050000", "step": "3"}, {"key": "zero"}],
        "params": [{"key": "lr", "value": "0.1"}, {"key": "empty"}],
        "tags": [{"key": "team", "value": "vision"}],
    },
}  # fmt: skip


class Answers(ThreadingHTTPServer):
    """A server that answers each path with what the test puts there."""

    by_path: dict[str, tuple[int, Any]]
    seen: list[tuple[str, str | None]]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(200, {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server
        assert isinstance(server, Answers)
        path = self.path.partition("mlflow/")[2]
        server.seen.append((path, self.headers["Authorization"]))
        self.answer(*server.by_path[path])

    def answer(self, code: int, value: Any) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        if code == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Answers]:
    answers = Answers(("127.0.0.1", 0), Handler)
    answers.by_path = {
        "experiments/search": (200, {"experiments": [{"experiment_id": "1", "name": "churn", "creation_time": "5"}]}),
        "runs/search": (200, {"runs": [RUN]}),
    }
    answers.seen = []
    thread = threading.Thread(target=answers.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield answers
    answers.shutdown()
    thread.join()
    answers.server_close()


class Other:
    """In place of MLflow's client."""

    def experiments(self) -> dict[str, Experiment]:
        return {"9": Experiment("9", "by mlflow", 0)}


def reader(server: Answers, user: str = "") -> RestReader:
    return RestReader(f"http://{user}127.0.0.1:{server.server_port}", otherwise=Other)  # type: ignore[arg-type]


def test_a_run(server: Answers) -> None:
    entry = reader(server).run("a" * 32)
    assert entry is not None
    assert (entry.name, entry.experiment, entry.status, entry.config) == (
        "wider", "churn", "completed", {"lr": 0.1, "empty": None},
    )  # fmt: skip
    assert entry.metrics["zero"] == 0.0
    assert entry.metrics["loss"] != entry.metrics["loss"]
    assert entry.heard_at is not None
    assert entry.heard_at.timestamp() == 1_700_000_050
    assert entry.tags == {"team": "vision"}


def test_nothing_there(server: Answers) -> None:
    server.by_path = {"experiments/search": (200, {}), "runs/search": (200, {})}
    assert reader(server).experiments() == {}
    assert list(reader(server).pages([])) == []
    assert list(reader(server).pages([Experiment("1", "a", 0)])) == [[]]


def test_how_it_logs_in(server: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
    reader(server).experiments()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    reader(server).experiments()
    reader(server, "alan:p%40ss@").experiments()
    basic = [f"Basic {base64.b64encode(pair).decode()}" for pair in (b"ada:secret", b"alan:p@ss")]
    assert [authorization for _, authorization in server.seen] == ["Bearer token", *basic]


@pytest.mark.parametrize("answer", [(401, {}), (403, {}), (404, {}), (302, {}), (200, b"<html>Log in</html>")])
def test_where_it_is_refused_mlflow_asks(server: Answers, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "token")
    server.by_path["experiments/search"] = answer
    assert list(reader(server).experiments()) == ["9"]
    assert len(server.seen) == 1  # and the token goes nowhere else


def test_what_the_server_says_of_an_error(server: Answers) -> None:
    server.by_path["experiments/search"] = (500, {"message": "The disk is full.\nTrace"})
    with pytest.raises(FailGuardError, match=r"cannot be read: The disk is full\.$"):
        reader(server).experiments()
    server.by_path["experiments/search"] = (503, {})
    with pytest.raises(FailGuardError, match="does not answer"):
        reader(server).experiments()


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_WORKSPACE"])
def test_which_servers_need_mlflow(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_plain_server("https://tracking.example")
    assert not is_plain_server("sqlite:///mlflow.db")
    monkeypatch.setenv(name, "x")
    assert not is_plain_server("https://tracking.example")
