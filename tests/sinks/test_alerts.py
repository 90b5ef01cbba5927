from __future__ import annotations

import json
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from typer.testing import CliRunner

from failguard.cli.app import app
from failguard.core.codes import FINDINGS
from failguard.core.diagnosis import Diagnosis
from failguard.core.finding import Finding, Severity, Status
from failguard.errors import ConfigurationError, FailGuardError
from failguard.sinks import alerts, messages
from failguard.sinks.alerts import AlertSink
from failguard.sinks.base import Sink


def test_one_message_when_it_begins_to_fail_and_one_at_the_end(make_report: Any) -> None:
    got: list[Status] = []
    sink = AlertSink([lambda report: got.append(report.status)])
    assert isinstance(sink, Sink)
    for _ in range(2):  # a second run begins anew
        got.clear()
        sink.start(make_report())
        sink.progress(make_report())
        assert got == []
        sink.progress(make_report(failing=True))
        sink.progress(make_report(failing=True))
        assert got == [Status.RUNNING]
        sink.finish(make_report(Status.STOPPED, failing=True))
        assert got == [Status.RUNNING, Status.STOPPED]


@pytest.mark.parametrize(
    ("status", "failing", "messages"),
    [
        (Status.COMPLETED, False, 0),
        (Status.FAILED, False, 1),
        (Status.STOPPED, True, 1),
        (Status.STOPPED, False, 1),  # an ordinary early stop: somebody waits for this run
        (Status.INTERRUPTED, False, 0),
    ],
)
def test_the_end_of_a_failing_run_is_told(make_report: Any, status: Status, failing: bool, messages: int) -> None:
    got: list[Any] = []
    sink = AlertSink([got.append])
    sink.start(make_report())
    sink.finish(make_report(status, failing=failing))
    assert len(got) == messages


def test_a_failure_to_alert_is_named_and_the_others_still_go_out(make_report: Any) -> None:
    got: list[Any] = []

    def broken(report: object) -> None:
        raise RuntimeError("no route, token=hunter2")

    sink = AlertSink([broken, got.append])
    sink.start(make_report())
    sink.progress(make_report(failing=True))
    with pytest.raises(FailGuardError, match=r"broken: RuntimeError: no route, token=\[redacted\]"):
        sink.finish(make_report(Status.FAILED, failing=True))
    assert len(got) == 2


@pytest.mark.parametrize("targets", ["slack://x", [3], [None]])
def test_targets_that_are_none(targets: Any) -> None:
    with pytest.raises(ConfigurationError, match="alerts takes a list"):
        AlertSink(targets)


def findings(*codes: str) -> list[Finding]:
    return [Finding(code, Severity.ERROR, i, 0, code) for i, code in enumerate(codes)]


def test_one_message_an_episode_and_not_too_many(make_report: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(alerts, "monotonic", lambda: now[0])
    got: list[list[str]] = []
    sink = AlertSink([lambda report: got.append([f.code for f in report.findings])])
    report = make_report()
    sink.start(report)
    report.findings = findings("loss.divergence")
    sink.progress(report)
    sink.progress(report)
    report.findings = findings("loss.divergence", "loss.no_learning")
    now[0] = 5.0
    sink.progress(report)
    assert len(got) == 1, "five seconds later is too soon"
    report.findings = findings("loss.divergence", "loss.no_learning", "gradient.exploding")
    now[0] = 100.0
    sink.progress(report)
    assert len(got) == 2
    for i, code in enumerate(sorted(FINDINGS)):
        now[0] += 1000.0
        report.findings = [*report.findings, Finding(code, Severity.ERROR, i, 0, code)]
        sink.progress(report)
    assert len(got) == 10
    sink.finish(report)
    assert len(got) == 11, "the last message always goes out"


def test_the_message_says_where_the_record_is_and_what_was_held_back(make_report: Any, apprise: type[_Apprise]) -> None:
    sink = AlertSink(["json://host"])
    report = make_report(failing=True)
    report.locations = {"mlflow": "http://server/#/experiments/1/runs/abc"}
    sink.start(report)
    sink.progress(report)
    report.findings = [*report.findings, *findings("gradient.exploding")]
    sink.progress(report)
    sink.finish(report)
    body = apprise.sent[-1][2]
    assert "mlflow: http://server/#/experiments/1/runs/abc" in body
    assert "held back in between: 1" in body


def test_a_real_webhook() -> None:
    pytest.importorskip("apprise")
    received: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"json://127.0.0.1:{server.server_port}/hook"
        assert messages.Messenger([address]).send("title", "body", None) == []
        result = CliRunner().invoke(app, ["doctor", "--alerts", address])
        assert "a test message was sent" in result.stdout
        dead = CliRunner().invoke(app, ["doctor", "--alerts", "json://127.0.0.1:9/secret", "--alerts", "x://secret"])
    finally:
        server.shutdown()
        server.server_close()
    assert [(m["title"], m["message"]) for m in received] == [
        ("title", "body"),
        ("failguard: test", "This is a test of alerts; nothing failed."),
    ]
    assert dead.exit_code == 2
    assert "was not sent" in dead.stdout
    assert "not understood" in dead.stdout
    assert "secret" not in dead.stdout


def test_an_address_without_apprise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install failguard-ml\[alerts\]"):
        AlertSink(["slack://a/b/c"])


class _Apprise:
    """Stands in for the library: knows ``json://`` and remembers what was sent."""

    sent: list[tuple[str, str, str]] = []
    accepts = True

    def add(self, address: str) -> bool:
        self.address = address
        return address.startswith("json://")

    def notify(self, title: str, body: str) -> bool:
        _Apprise.sent.append((self.address, title, body))
        return _Apprise.accepts


@pytest.fixture
def apprise(monkeypatch: pytest.MonkeyPatch) -> type[_Apprise]:
    module = types.ModuleType("apprise")
    module.Apprise = _Apprise  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "apprise", module)
    monkeypatch.setattr(messages.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(_Apprise, "sent", [])
    monkeypatch.setattr(_Apprise, "accepts", True)
    return _Apprise


def test_an_early_stop_is_told_with_its_reason(make_report: Any, apprise: type[_Apprise]) -> None:
    sink = AlertSink(["json://host/hunter2"])
    sink.start(make_report())
    report = make_report(Status.STOPPED)
    report.root = Finding("metric.no_improvement", Severity.INFO, 19, 1, "val_loss did not improve for 3 epochs.")
    report.diagnosis = Diagnosis("val_loss did not improve for 3 epochs.")
    report.locations["mlflow"] = "http://server/#/experiments/1/runs/2"
    sink.finish(report)
    ((_, title, body),) = apprise.sent
    assert title == "failguard: 20260101-100000-torch-abc123 stopped: metric.no_improvement"
    assert body.splitlines() == [
        "val_loss did not improve for 3 epochs.",
        "mlflow: http://server/#/experiments/1/runs/2",
    ]


def test_an_address_gets_one_line_of_diagnosis(make_report: Any, apprise: type[_Apprise]) -> None:
    sink = AlertSink(["json://host/hunter2"])
    sink.start(make_report())
    sink.finish(make_report(Status.STOPPED, failing=True))
    ((address, title, body),) = apprise.sent
    assert address == "json://host/hunter2"
    assert title.startswith("failguard: 20260101-100000-torch-abc123 stopped: loss.")
    assert body.splitlines()[0] == "The loss diverged."


def test_a_service_that_refuses_is_named_without_its_secrets(
    make_report: Any, apprise: type[_Apprise], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apprise, "accepts", False)
    sink = AlertSink(["json://host/hunter2"])
    sink.start(make_report())
    with pytest.raises(FailGuardError, match=r"json://\.\.\.") as caught:
        sink.finish(make_report(Status.FAILED))
    assert "hunter2" not in str(caught.value)


@pytest.mark.usefixtures("apprise")
def test_an_address_that_is_not_understood() -> None:
    with pytest.raises(ConfigurationError, match=r"nonsense://\.\.\. is not understood") as caught:
        AlertSink(["nonsense://hunter2"])
    assert "hunter2" not in str(caught.value)
