"""The orchestrator with a stand-in for the framework: what it records, decides and asks for."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from failguard.core.decision import Action, Decision
from failguard.core.facts import Facts, ModelFacts
from failguard.core.finding import Finding, Severity, Status, Where
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.errors import TrainingFailure
from failguard.guard import Guard
from failguard.report.run_report import RunReport
from failguard.settings import Settings


class StandInHost:
    """Remembers what it was asked to do."""

    def __init__(self, *, bad_weights: Sequence[str] = (), weights_bytes: int = 100) -> None:
        self.decisions: list[Decision] = []
        self.saved = 0
        self.restored = 0
        self.located: list[Finding] = []
        self.bad_weights = list(bad_weights)
        self._weights_bytes = weights_bytes

    def apply(self, decision: Decision) -> None:
        self.decisions.append(decision)

    def learning_rate(self) -> float | None:
        return None

    def weights_bytes(self) -> int:
        return self._weights_bytes

    def save_weights(self) -> None:
        self.saved += 1

    def restore_weights(self) -> None:
        self.restored += 1
        self.bad_weights = []

    def non_finite_weights(self) -> list[str]:
        return self.bad_weights

    def locate(self, finding: Finding) -> Where | None:
        self.located.append(finding)
        return Where(module="encoder.0", tensor="output", batch=finding.step)


def guard_of(host: StandInHost | None = None, facts: Facts | None = None, **keywords: Any) -> Guard:
    guard = Guard(Settings(sinks=[], resources=False, **keywords), host or StandInHost(), "torch")
    guard.start(facts or Facts(framework="torch", max_epochs=10, steps_per_epoch=10))
    return guard


def train(guard: Guard, losses: Sequence[float], metrics: dict[str, float] | None = None) -> list[bool]:
    """One epoch. Returns which updates were allowed."""
    guard.start_epoch(guard.epoch)
    allowed = []
    for loss in losses:
        guard.record_loss(loss)
        if guard.gradient_due:
            guard.record_gradient(1.0, cost_s=1e-6)
        allowed.append(guard.allow_update())
        guard.end_batch()
        if guard.should_stop:
            break
    guard.end_epoch(metrics or {}, validated=bool(metrics))
    guard.epoch += 1
    return allowed


def test_a_healthy_run_is_completed_without_findings() -> None:
    host = StandInHost()
    guard = guard_of(host)
    for epoch in range(10):
        assert all(train(guard, [2.3 / (1 + epoch + i / 10) for i in range(10)], {"val_loss": 2.3 / (1 + epoch)}))
    guard.finish()
    report = guard.report
    assert report.status is Status.COMPLETED
    assert report.findings == []
    assert report.root is None
    assert report.healthy
    assert not report.failing
    assert report.progress.steps == report.progress.optimizer_steps == 100
    assert report.progress.steps_saved == 0
    assert host.decisions == []
    assert host.saved == host.restored == 0
    assert report.fingerprint is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_loss_stops_before_its_update_and_names_the_place(bad: float) -> None:
    host = StandInHost()
    guard = guard_of(host)
    assert train(guard, [2.0, 1.9, bad, 1.8]) == [True, True, False]
    guard.finish()
    report = guard.report
    assert report.status is Status.STOPPED
    assert report.root is not None
    assert (report.root.code, report.root.step) == ("loss.non_finite", 2)
    assert report.root.where == Where("encoder.0", "output", 2)
    assert [d.action for d in host.decisions] == [Action.STOP]
    assert [a.what for a in report.actions] == ["stop", "drop_update"]
    assert report.progress.optimizer_steps == 2
    assert report.progress.steps_saved == 97
    assert report.compute.saved_h is not None
    assert report.compute.saved_h > 0


def test_a_bad_gradient_with_a_good_loss_stops_too() -> None:
    guard = guard_of()
    guard.record_loss(1.0)
    guard.check_gradient(math.nan)
    assert not guard.allow_update()
    assert guard.report.findings[0].code == "gradient.non_finite"


def test_observe_finds_but_never_acts() -> None:
    host = StandInHost()
    guard = guard_of(host, policy="observe")
    assert all(train(guard, [2.0, math.nan, math.nan, 1.0]))
    guard.finish()
    assert host.decisions == []
    assert guard.report.status is Status.COMPLETED
    assert [f.code for f in guard.report.findings] == ["loss.non_finite"]


def test_ignored_codes_are_never_raised() -> None:
    guard = guard_of(ignore=["loss.non_finite"])
    assert all(train(guard, [2.0, math.nan, 1.0]))
    assert guard.report.findings == []


def test_rows_of_a_compiled_step_are_taken_in_order() -> None:
    guard = guard_of()
    guard.record_rows([2.0, 1.9, math.nan, 1.7], [1.0, 1.0, math.nan, 1.0], dropped=1)
    report = guard.report
    assert report.findings[0].step == 2
    assert guard.should_stop
    assert (guard.step, guard.optimizer_steps) == (4, 3)
    assert guard.history.steps["loss"].values.tolist()[:2] == [2.0, 1.9]
    assert report.findings[0].epoch == 0


def test_early_stop_counts_validated_epochs_and_restores_the_best() -> None:
    host = StandInHost()
    guard = guard_of(host, patience=2)
    for value in (1.0, 0.5, 0.6, 0.55, 0.1):
        train(guard, [1.0] * 3, {"val_loss": value})
        if guard.should_stop:
            break
    guard.finish()
    report = guard.report
    assert guard._epochs_seen == 4
    assert report.status is Status.STOPPED
    assert report.root is not None
    assert (report.root.code, report.root.severity) == ("metric.no_improvement", Severity.INFO)
    assert report.best == {"monitor": "val_loss", "mode": "min", "value": 0.5, "epoch": 1, "step": 5}
    assert (host.saved, host.restored) == (2, 1)
    assert "restore_best_weights" in [a.what for a in report.actions]
    assert not report.failing


def test_epochs_without_validation_do_not_count() -> None:
    guard = guard_of(patience=2)
    train(guard, [1.0], {"val_loss": 0.5})
    for _ in range(5):
        train(guard, [1.0])
    assert not guard.should_stop


def test_weights_are_not_copied_when_memory_is_short(caplog: pytest.LogCaptureFixture) -> None:
    host = StandInHost(weights_bytes=10**15)
    guard = guard_of(host, patience=1)
    with caplog.at_level(logging.WARNING, "failguard"):
        train(guard, [1.0], {"val_loss": 0.5})
        train(guard, [1.0], {"val_loss": 0.4})
        train(guard, [1.0], {"val_loss": 0.6})
    guard.finish()
    assert (host.saved, host.restored) == (0, 0)
    assert len([r for r in caplog.records if "best weights are not kept" in r.message]) == 1
    assert guard.report.status is Status.STOPPED


def test_bad_weights_at_a_stop_are_replaced_by_the_best_or_named() -> None:
    with_copy = StandInHost(bad_weights=["encoder.weight"])
    guard = guard_of(with_copy, restore_best_weights=True)
    train(guard, [1.0], {"val_loss": 0.5})
    train(guard, [math.nan])
    guard.finish()
    assert with_copy.restored == 1
    assert guard.report.status is Status.STOPPED

    without = StandInHost(bad_weights=["encoder.weight"])
    guard = guard_of(without)
    train(guard, [math.nan])
    guard.finish()
    assert guard.report.status is Status.FAILED
    assert any("encoder.weight" in note for note in guard.report.notes)


def test_a_monitor_that_never_appears_is_named_with_what_exists(caplog: pytest.LogCaptureFixture) -> None:
    guard = guard_of(monitor="val_f1", mode="max", monitor_is_named=True)
    with caplog.at_level(logging.WARNING, "failguard"):
        train(guard, [1.0], {"val_loss": 0.5, "val_acc": 0.1})
        train(guard, [1.0], {"val_loss": 0.5, "val_acc": 0.1})
    said = [r.message for r in caplog.records if "val_f1" in r.message]
    assert len(said) == 1
    assert "val_acc" in said[0]
    assert "val_loss" in said[0]
    assert not guard.should_stop


def test_a_validation_that_is_still_to_come_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    facts = Facts(framework="torch", max_epochs=10, steps_per_epoch=10, validates=True)
    guard = guard_of(facts=facts, patience=3, monitor_is_named=True)
    with caplog.at_level(logging.WARNING, "failguard"):
        train(guard, [1.0])
        assert caplog.records == []
        train(guard, [1.0], {"val_acc": 0.5})
        train(guard, [1.0], {"val_acc": 0.5})
    assert [("val_loss" in r.message) for r in caplog.records] == [True]


def test_a_state_for_another_monitor_gives_no_best_value() -> None:
    first = guard_of()
    train(first, [1.0], {"val_loss": 0.5})
    second = Guard(Settings(sinks=[], resources=False, monitor="val_acc", mode="max"), StandInHost(), "torch")
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.step == 1
    assert second.history.improvement.best_value is None


def test_the_default_monitor_may_be_absent_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    guard = guard_of()
    with caplog.at_level(logging.WARNING, "failguard"):
        train(guard, [1.0])
    assert caplog.records == []
    assert guard.report.notes == []


def test_an_exception_is_recorded_with_its_frame_and_without_secrets() -> None:
    guard = guard_of()
    train(guard, [1.0])
    try:
        raise RuntimeError("cannot open s3 with password=hunter22")
    except RuntimeError as error:
        guard.fail(error)
    guard.finish()
    report = guard.report
    assert report.status is Status.FAILED
    assert report.root is not None
    assert report.root.code == "run.exception"
    assert report.exception is not None
    assert report.exception.type_name == "RuntimeError"
    assert "hunter22" not in json.dumps(report.to_dict())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupt_is_no_failure(error: BaseException) -> None:
    guard = guard_of()
    train(guard, [1.0])
    guard.fail(error)
    guard.finish()
    assert guard.report.status is Status.INTERRUPTED
    assert guard.report.root is not None
    assert guard.report.root.code == "run.interrupted"


def test_raise_on_failure_gives_an_error_that_carries_the_report() -> None:
    guard = guard_of(raise_on_failure=True)
    train(guard, [1.0, math.nan])
    guard.finish()
    failure = guard.failure()
    assert isinstance(failure, TrainingFailure)
    assert failure.report.root is not None
    assert failure.report.root.code == "loss.non_finite"
    guard = guard_of(raise_on_failure=True)
    train(guard, [1.0, 0.9])
    guard.finish()
    assert guard.failure() is None


def test_state_carries_over_to_a_resumed_run() -> None:
    first = guard_of(patience=3)
    for value in (1.0, 0.5, 0.6):
        train(first, [1.0] * 5, {"val_loss": value})
    state = json.loads(json.dumps(first.state_dict()))
    second = Guard(Settings(sinks=[], resources=False, patience=3), StandInHost(), "torch")
    second.load_state_dict(state)
    second.start(Facts(framework="torch"))
    assert second.step == 15
    assert second.history.improvement.waited_epochs == 1
    second.epoch = 3
    for value in (0.7, 0.7):
        train(second, [1.0] * 5, {"val_loss": value})
    assert second.should_stop
    assert second.report.run.resumed
    second.finish()
    assert any("before this run was resumed" in note for note in second.report.notes)
    assert len(second.history.steps["loss"]) == 25


class Broken:
    """A detector that raises."""

    code = "loss.spike"
    TRIPS: tuple[()] = ()
    QUIET: tuple[()] = ()

    def check(self, observation: Observation, history: History) -> Finding | None:
        raise ZeroDivisionError("a defect")


class BrokenSink:
    """A sink that raises."""

    name = "broken"
    background = False

    def start(self, report: RunReport) -> None:
        raise OSError("no such place")

    def progress(self, report: RunReport) -> None: ...

    def finish(self, report: RunReport) -> None: ...


def test_parts_that_raise_are_named_and_training_goes_on(contained: None, caplog: pytest.LogCaptureFixture) -> None:
    host = StandInHost()
    host.save_weights = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    settings = Settings(sinks=[BrokenSink()], resources=False, detectors=[Broken()], restore_best_weights=True)
    guard = Guard(settings, host, "torch")
    guard.start(Facts(framework="torch"))
    assert all(train(guard, [1.0] * 40, {"val_loss": 1.0}))
    guard.finish()
    report = guard.report
    assert {e.part for e in report.part_errors} == {"detector loss.spike", "sink broken", "best weights"}
    assert report.status is Status.COMPLETED
    assert not report.healthy


def test_a_model_without_trainable_weights_is_named() -> None:
    guard = guard_of(facts=Facts(framework="torch", model=ModelFacts(trainable_parameters=0)))
    assert any("no trainable parameters" in note for note in guard.report.notes)


def test_the_report_can_be_read_while_the_run_goes_on() -> None:
    guard = guard_of()
    train(guard, [1.0, 0.9])
    assert guard.report.status is Status.RUNNING
    assert guard.report.progress.steps == 2


def test_finishing_twice_changes_nothing() -> None:
    guard = guard_of()
    train(guard, [1.0])
    guard.finish()
    report = guard.report
    guard.fail(RuntimeError("late"))
    guard.finish()
    assert guard.report is report
    assert report.status is Status.COMPLETED


class Unreadable(dict[str, Any]):
    """A mapping of the user's whose contents cannot be read."""

    def items(self) -> Any:
        raise RuntimeError("not now")

    def __iter__(self) -> Any:
        raise RuntimeError("not now")


def test_a_config_that_cannot_be_read_is_left_out_with_a_word() -> None:
    guard = guard_of(config=Unreadable(lr=0.1), tags=Unreadable(team="a"))
    assert all(train(guard, [1.0, 0.9]))
    guard.finish()
    assert guard.report.run.config == guard.report.run.tags == {}
    assert [note.split()[0] for note in guard.report.notes] == ["config", "tags"]


def test_names_and_remarks_carry_no_secrets(caplog: pytest.LogCaptureFixture) -> None:
    secret = "token=abc123secret"
    facts = Facts(framework="torch", notes=[f"cannot be measured: {secret}"])
    names = dict.fromkeys(("experiment", "run_name", "hypothesis", "approach"), secret)
    guard = guard_of(facts=facts, config={"note": secret}, tags={"note": secret}, **names)
    guard.note(secret)
    train(guard, [1.0])
    running = json.dumps(guard.report.to_dict())
    guard.finish()
    assert "abc123secret" not in running + json.dumps(guard.report.to_dict()) + caplog.text


def test_dropped_updates_are_one_action_however_many() -> None:
    guard = guard_of(policy="observe")
    for _ in range(50):
        guard.record_rows([1.0, math.nan], [], dropped=1)
    guard.finish()
    assert [a.what for a in guard.report.actions] == ["drop_update"]
    assert any("50 updates" in note for note in guard.report.notes)


def test_the_record_is_made_and_sampling_ends_whatever_fails_at_the_end(
    contained: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = Guard(Settings(sinks=[]), StandInHost(), "torch")
    guard.start(Facts(framework="torch"))
    train(guard, [1.0])
    monkeypatch.setattr(guard, "_settle_weights", lambda: 1 / 0)
    monkeypatch.setattr("failguard.episodes.Episodes.take_in", lambda *_: 1 / 0)
    monkeypatch.setattr("failguard.guard.look", lambda *_: [Finding("loss.spike", Severity.INFO, 0, 0, "")])
    guard.finish()
    assert guard.report.status is Status.COMPLETED
    assert {e.part for e in guard.report.part_errors} == {"last look", "settling the weights"}
    assert not any(t.name == "failguard-sampler" for t in threading.enumerate())


def test_the_short_way_through_a_step_records_the_same() -> None:
    """Steps that take the short way leave the history and counts of those that do not."""
    losses = [2.3 / (1 + i / 50) for i in range(300)]
    long, short = guard_of(), guard_of()
    train(long, losses)
    short.start_epoch(0)
    quiet = 0
    for loss in losses:
        if short.gradient_due:
            short.record_loss(loss)
            short.record_gradient(1.0, cost_s=1e-6)
            assert short.allow_update()
        else:
            short.record_fine_batch(loss)
        if short.end_quiet_batch():
            quiet += 1
        else:
            short.end_batch()
    short.end_epoch({}, validated=False)
    assert quiet > 200
    assert (short.step, short.optimizer_steps) == (long.step, long.optimizer_steps) == (300, 300)
    assert list(short.history.steps["loss"].values) == list(long.history.steps["loss"].values)
    assert len(short.history.steps["step_s"]) == 300
    assert short.history.epochs["train_loss"].last == pytest.approx(long.history.epochs["train_loss"].last)


def test_a_quiet_end_is_refused_where_something_is_due() -> None:
    guard = guard_of()
    guard.record_fine_batch(1.0)
    assert not guard.end_quiet_batch()  # the first batch: the detectors are due
    guard.end_batch()
    guard.record_loss(math.nan)  # and no update follows
    assert not guard.end_quiet_batch()
    assert guard.step == 1
    guard.end_batch()
    assert guard.report.root is not None
    assert guard.report.root.code == "loss.non_finite"


def test_rows_are_taken_in_at_once_as_one_by_one() -> None:
    losses, norms = [2.0 / (1 + i) for i in range(40)], [1.0 + i for i in range(40)]
    at_once, one_by_one = guard_of(), guard_of()
    for guard in (at_once, one_by_one):
        guard.start_epoch(0)
    at_once.record_rows(losses, norms)
    for loss, norm in zip(losses, norms, strict=True):
        one_by_one.record_rows([loss], [norm])
    for guard in (at_once, one_by_one):
        guard.end_epoch({}, validated=False)
        assert guard.step == guard.optimizer_steps == 40
    for name in ("loss", "gradient_norm"):
        a, b = at_once.history.steps[name], one_by_one.history.steps[name]
        assert list(a.values) == list(b.values)
        assert list(a.steps) == list(b.steps) == list(range(40))
    assert at_once.history.epochs["train_loss"].last == pytest.approx(sum(losses) / 40)
