"""Which store a run goes to, and whether its server is up. Without MLflow."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from failguard.sinks.mlflow import MlflowSink
from failguard.sinks.mlflow_session import Unreachable, probe


@pytest.fixture
def other_protocol() -> Iterator[str]:
    """A server that speaks, but not HTTP."""
    listening = socket.create_server(("127.0.0.1", 0))

    def greet() -> None:
        try:
            connection, _ = listening.accept()
        except OSError:  # closed: nobody came
            return
        with connection:
            connection.recv(1000)
            connection.sendall(b"SSH-2.0-server\r\n\r\n")

    thread = threading.Thread(target=greet)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.close()
    thread.join(30)


def test_a_server_of_another_kind_does_not_answer(other_protocol: str) -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        probe(other_protocol)


@pytest.mark.parametrize("uri", ["http://localhost:notaport", "http://[::1", "HTTP://user:hunter2@127.0.0.1:9"])
def test_an_address_that_leads_nowhere_is_named_without_its_secrets(uri: str) -> None:
    with pytest.raises(Unreachable, match="MLFLOW_TRACKING_URI") as error:
        probe(uri)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "mlruns", "file:mlruns", "databricks"])
def test_other_stores_are_not_probed(uri: str) -> None:
    probe(uri)


def test_the_store_of_a_run_is_that_of_its_start(make_report: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    sink = MlflowSink()
    sink.prepare(make_report())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:2")
    assert sink.delivery_state()["tracking_uri"] == "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("sink", "environment", "expected"),
    [
        (MlflowSink(), {}, "Default"),
        (MlflowSink(), {"MLFLOW_EXPERIMENT_NAME": "named"}, "named"),
        (MlflowSink(), {"MLFLOW_EXPERIMENT_ID": "7"}, None),
        (MlflowSink(experiment="churn"), {}, "churn"),
        (MlflowSink(run_id="a"), {}, None),
        (MlflowSink(), {"MLFLOW_RUN_ID": "a"}, None),
    ],
)
def test_the_experiment_as_far_as_it_is_known_without_asking(
    sink: MlflowSink,
    environment: dict[str, str],
    expected: str | None,
    make_report: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    sink.prepare(make_report())
    assert sink.experiment == expected
    assert sink.store is None
    assert sink.taken is None
