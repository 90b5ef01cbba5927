from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from failguard.core.finding import Status
from failguard.errors import ConfigurationError, FailGuardError
from failguard.sinks import alerts
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
        (Status.STOPPED, False, 0),  # an ordinary early stop
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


def test_an_address_without_apprise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts.importlib.util, "find_spec", lambda name: None)
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
    monkeypatch.setattr(alerts.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(_Apprise, "sent", [])
    monkeypatch.setattr(_Apprise, "accepts", True)
    return _Apprise


def test_an_address_gets_one_line_of_diagnosis(make_report: Any, apprise: type[_Apprise]) -> None:
    sink = AlertSink(["json://host/hunter2"])
    sink.start(make_report())
    sink.finish(make_report(Status.STOPPED, failing=True))
    title = "failguard: 20260101-100000-torch-abc123 stopped"
    assert apprise.sent == [("json://host/hunter2", title, "The loss diverged.")]


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
