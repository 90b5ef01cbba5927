"""The memory of one guard: what it asks, how long it waits, and what it leaves behind."""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from failguard.core.facts import Facts, ModelFacts, OptimizerFacts
from failguard.core.finding import Severity
from failguard.guard import Guard
from failguard.report.outcome import Outcome
from failguard.report.run_report import RunReport
from failguard.runs import memory as memory_module
from failguard.runs.entry import RunEntry
from failguard.runs.index import RunIndex, store_uri
from failguard.runs.memory import LOCAL_INDEX
from failguard.runs.memory_settings import FailureMemory
from failguard.runs.recall import CODE
from failguard.settings import Settings
from failguard.sinks.console import Console
from failguard.sinks.files import LocalRecord
from failguard.sinks.mlflow import MlflowSink

NOW = datetime.now(UTC)


class Host:
    """A framework that can do nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: None


class DeadStore(MlflowSink):
    """A store that takes nothing, but is known by its address."""

    def start(self, report: RunReport) -> None: ...

    def progress(self, report: RunReport) -> None: ...

    def finish(self, report: RunReport) -> None: ...


def entry(i: int = 1, lr: float = 0.3, **changes: Any) -> RunEntry:
    values: dict[str, Any] = {
        "run_id": f"{i:032x}",
        "experiment_id": "1",
        "experiment": "churn",
        "line": "churn",
        "name": f"run-{i}",
        "status": "stopped",
        "outcome": Outcome.FAILURE,
        "started_at": NOW - timedelta(hours=100 - i),
        "finding": "loss.divergence",
        "cause": "learning_rate_too_high",
        "steps": 140,
        "config": {"lr": lr, "width": 64},
        "setup": {"model": "Net", "optimizer": "SGD", "learning_rate": lr},
    }
    return RunEntry(**{**values, **changes})


def make_guard(memory: bool | FailureMemory = True, **keywords: Any) -> Guard:
    chosen = {"sinks": [LocalRecord("records"), DeadStore()], "experiment": "churn", **keywords}
    return Guard(Settings(memory=memory, resources=False, **chosen), Host(), "torch")  # type: ignore[arg-type]


def start(guard: Guard, lr: float = 0.3, **facts: Any) -> Guard:
    optimizer = OptimizerFacts(name="SGD", learning_rate=lr)
    config = {"lr": lr, "width": 64}
    guard.start(Facts(framework="torch", config=config, optimizer=optimizer, model=ModelFacts(name="Net"), **facts))
    return guard


def diverge(guard: Guard) -> RunReport:
    guard.start_epoch(0)
    for i in range(60):
        loss = 2.0 if i < 20 else 2.0 ** (i - 20) if i < 40 else math.nan
        guard.record_loss(loss)
        guard.record_gradient(loss)
        guard.allow_update()
        guard.end_batch()
        if guard.should_stop:
            break
    guard.finish()
    return guard.report


def train(guard: Guard) -> RunReport:
    guard.start_epoch(0)
    for i in range(60):
        guard.record_loss(2.0 / (1 + i))
        guard.allow_update()
        guard.end_batch()
    guard.finish()
    return guard.report


def codes(report: RunReport) -> dict[str, Severity]:
    return {f.code: f.severity for f in report.findings}


@pytest.fixture
def index() -> RunIndex:
    return RunIndex.for_store(store_uri())


@pytest.fixture
def locked(index: RunIndex) -> Iterator[RunIndex]:
    """An index that another process holds, and a file system without a write-ahead log."""
    with closing(sqlite3.connect(index.path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("BEGIN EXCLUSIVE")
        yield index


def test_it_is_said_before_the_first_step(index: RunIndex, caplog: pytest.LogCaptureFixture) -> None:
    index.put([entry(1), entry(2, 0.5)])
    guard = start(make_guard(FailureMemory(wait_s=10)))
    (finding,) = guard.report.findings
    assert (finding.code, finding.severity, finding.step) == (CODE, Severity.INFO, -1)
    assert "2 earlier runs with a configuration like this diverged by step 140 (lr 0.3)" in finding.message
    assert [r.levelname for r in caplog.records if "2 earlier runs" in r.getMessage()] == ["WARNING"]
    report = train(guard)
    assert report.healthy
    assert report.root is None
    assert report.similar_runs == []


def test_a_failure_that_happens_again_is_a_warning_and_never_the_root() -> None:
    first = diverge(start(make_guard()))
    assert first.root is not None
    assert CODE not in codes(first)
    assert first.similar_runs == []
    second = diverge(start(make_guard(FailureMemory(wait_s=10))))
    assert second.fingerprint == first.fingerprint
    assert codes(second)[CODE] is Severity.WARNING
    assert second.root is not None
    assert second.root.code == first.root.code
    assert second.diagnosis.summary == first.diagnosis.summary
    assert [(row["run_id"], row["match"]) for row in second.similar_runs] == [(first.run.record_id, "failure")]
    assert RunReport.from_dict(second.to_dict()).similar_runs == second.similar_runs
    (folder,) = Path("records").glob(f"{second.run.record_id}*")
    assert first.run.record_id in (folder / "failure_analysis.json").read_text()
    assert "Seen before" in (folder / "failguard" / "report.md").read_text()


def test_what_was_alike_but_failed_otherwise_is_no_repeat(index: RunIndex) -> None:
    index.put([entry(1, fingerprint="0" * 16)])
    report = diverge(start(make_guard(FailureMemory(wait_s=10))))
    assert codes(report)[CODE] is Severity.INFO
    assert [row["match"] for row in report.similar_runs] == ["configuration"]


def test_silent_for_what_went_well_and_for_other_configurations() -> None:
    diverge(start(make_guard()))
    assert codes(train(start(make_guard(FailureMemory(wait_s=10)), lr=0.001))) == {}
    train(start(make_guard()))
    assert codes(train(start(make_guard(FailureMemory(wait_s=10))))) == {}, "the same went well since"


def test_other_lines_are_asked_only_on_request(index: RunIndex) -> None:
    index.put([entry(1, line="other")])
    assert codes(train(start(make_guard(FailureMemory(wait_s=10))))) == {}
    elsewhere = [LocalRecord("elsewhere"), DeadStore()]
    guard = start(make_guard(FailureMemory(wait_s=10, experiments="all"), sinks=elsewhere))
    assert CODE in codes(guard.report)
    guard = start(make_guard(FailureMemory(wait_s=10), line="other", sinks=elsewhere))
    assert CODE in codes(guard.report)


def test_a_run_whose_experiment_is_not_known_yet_asks_the_whole_store(index: RunIndex) -> None:
    index.put([entry(1, line="other")])
    guard = make_guard(FailureMemory(wait_s=10), experiment=None, sinks=[LocalRecord("records"), DeadStore(run_id="a")])
    assert CODE in codes(train(start(guard)))


@pytest.mark.parametrize(
    "keywords",
    [{"sinks": []}, {"memory": False}, {"sinks": [Console()]}],
    ids=["no sinks", "no memory", "nothing that keeps runs"],
)
def test_nothing_is_read_or_written(index: RunIndex, keywords: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    index.put([entry(1)])
    before = index.writes
    monkeypatch.setattr(memory_module, "RunIndex", None)
    report = diverge(start(make_guard(**keywords)))
    assert report.failing
    assert CODE not in codes(report)
    assert index.writes == before
    assert not Path("records", LOCAL_INDEX).exists()


def test_a_code_that_is_ignored_is_not_told(index: RunIndex, caplog: pytest.LogCaptureFixture) -> None:
    index.put([entry(1)])
    diverge(start(make_guard()))
    caplog.clear()
    report = diverge(start(make_guard(FailureMemory(wait_s=10), ignore=[CODE])))
    assert CODE not in codes(report)
    assert "with a configuration like this" not in caplog.text
    assert report.similar_runs


def test_other_ranks_ask_nobody(index: RunIndex) -> None:
    index.put([entry(1)])
    guard = make_guard()
    guard.start(Facts(framework="torch", world_size=2), writes=False)
    assert not [t for t in threading.enumerate() if t.name == "failguard memory"]
    guard.finish()


def test_training_waits_no_longer_than_it_was_allowed(locked: RunIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    wait = threading.Event.wait

    def watched(event: threading.Event, timeout: float | None = None) -> bool:
        if threading.current_thread() is threading.main_thread() and timeout is not None:
            waits.append(timeout)
        return wait(event, timeout)

    memory = make_guard()._recorder._settings.failure_memory
    assert memory is not None
    assert memory.wait_s == 0.3
    guard = make_guard()
    monkeypatch.setattr(threading.Event, "wait", watched)
    start(guard)
    assert all(w <= 0.3 for w in waits)
    assert codes(guard.report) == {}
    waits.clear()
    report = diverge(guard)
    assert CODE not in codes(report)
    assert max(waits) <= 5.0, "the delivery's own"


def test_an_answer_that_comes_late_is_given_when_it_comes(
    index: RunIndex, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.put([entry(1)])
    go, said = threading.Event(), threading.Event()
    entries = RunIndex.entries

    def slow(self: RunIndex, **filters: Any) -> list[RunEntry]:
        go.wait(10)
        return entries(self, **filters)

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "1 earlier run" in record.getMessage():
                said.set()

    listener = Listener()
    logging.getLogger("failguard").addHandler(listener)
    monkeypatch.setattr(RunIndex, "entries", slow)
    guard = start(make_guard(FailureMemory(wait_s=0)))
    assert codes(guard.report) == {}
    go.set()
    assert said.wait(10)
    logging.getLogger("failguard").removeHandler(listener)
    until = monotonic() + 10
    while CODE not in codes(guard.report) and monotonic() < until:
        threading.Event().wait(0.01)
    assert codes(train(guard)) == {CODE: Severity.INFO}


def test_an_answer_after_the_end_is_not_told(index: RunIndex, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    index.put([entry(1)])
    go = threading.Event()
    entries = RunIndex.entries

    def slow(self: RunIndex, **filters: Any) -> list[RunEntry]:
        go.wait(10)
        return entries(self, **filters)

    monkeypatch.setattr(RunIndex, "entries", slow)
    report = train(start(make_guard(FailureMemory(wait_s=0))))
    threads = [t for t in threading.enumerate() if t.name == "failguard memory"]
    go.set()
    for thread in threads:
        thread.join(10)
    assert codes(report) == {}
    assert "1 earlier run" not in caplog.text


def test_a_damaged_index_is_made_again(index: RunIndex) -> None:
    index.path.write_bytes(b"no database" * 1000)
    Path(f"{index.path}-wal").unlink(missing_ok=True)
    assert codes(train(start(make_guard(FailureMemory(wait_s=10))))) == {}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "read_only"
    folder.mkdir(mode=0o500)
    monkeypatch.setenv("FAILGUARD_CACHE_DIR", str(folder / "cache"))
    report = train(start(make_guard(FailureMemory(wait_s=10))))
    assert report.healthy


def test_an_index_that_cannot_be_used_is_a_remark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FAILGUARD_CACHE_DIR", str(tmp_path / "file" / "cache"))
    report = train(start(make_guard(FailureMemory(wait_s=10))))
    assert report.healthy
    assert report.part_errors == []
    (remark,) = [note for note in report.notes if "Earlier runs could not be looked at" in note]
    assert "FAILGUARD_CACHE_DIR" in remark
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING and "Earlier runs" in r.getMessage()]


def test_the_records_are_asked_where_the_stores_index_cannot_be(monkeypatch: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FAILGUARD_CACHE_DIR", str(tmp_path / "file" / "cache"))
    diverge(start(make_guard()))
    assert CODE in codes(train(start(make_guard(FailureMemory(wait_s=10)))))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*")
def test_a_forked_child_waits_for_nobody(locked: RunIndex) -> None:
    guard = start(make_guard(FailureMemory(wait_s=0)))
    memory = guard._recorder._memory
    assert memory is not None
    memory._options = FailureMemory(wait_s=10)
    memory._started_at = monotonic()
    memory._answered.clear()
    child = os.fork()
    if child == 0:
        memory.wait()
        os._exit(0 if monotonic() - memory._started_at < 9 else 1)
    assert os.waitpid(child, 0)[1] == 0
    guard.finish()


def test_the_run_is_remembered_beside_its_record_where_no_store_has_it() -> None:
    report = diverge(start(make_guard(sinks=[LocalRecord("records")], experiment=None)))
    (remembered,) = RunIndex(Path("records", LOCAL_INDEX)).entries()
    assert remembered.run_id == remembered.record_id == report.run.record_id
    assert (remembered.outcome, remembered.finding) == (Outcome.FAILURE, report.root and report.root.code)
    assert remembered.fingerprint == report.fingerprint
    assert remembered.config == {"lr": 0.3, "width": 64}
    again = start(make_guard(FailureMemory(wait_s=10), sinks=[LocalRecord("records")], experiment=None))
    assert CODE in codes(again.report)
    again.finish()


def test_secrets_of_a_configuration_are_not_remembered() -> None:
    diverge(start(make_guard(config={"lr": 0.3, "api_key": "hunter2"})))
    data = b"".join(path.read_bytes() for path in Path("records").glob(f"{LOCAL_INDEX}*"))
    assert b"learning_rate_too_high" in data
    assert b"hunter2" not in data


def test_several_guards_at_once_share_one_index() -> None:
    def work() -> None:
        diverge(start(make_guard()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(RunIndex(Path("records", LOCAL_INDEX)).entries()) == 4


@pytest.mark.slow
def test_a_hundred_thousand_runs(index: RunIndex) -> None:
    for first in range(0, 100_000, 10_000):
        index.put([entry(i + 1, line=f"line {i % 50}") for i in range(first, first + 10_000)])
    plan = "EXPLAIN QUERY PLAN SELECT entry FROM runs WHERE outcome = ? AND line = ? ORDER BY started_ms DESC LIMIT 9"
    with closing(sqlite3.connect(index.path)) as connection:
        (search, *_) = connection.execute(plan, ("failure", "line 1")).fetchall()
    assert "USING INDEX runs_line" in search[3], "no scan"
    report = train(start(make_guard(FailureMemory(wait_s=10), line="line 1")))
    assert CODE in codes(report)


def test_what_the_store_has_by_now_is_no_longer_kept_beside_the_records(index: RunIndex) -> None:
    from failguard.core.containment import Containment
    from failguard.runs.memory_sink import MemorySink

    kept = RunIndex(Path("records", LOCAL_INDEX))
    kept.put([entry(1, record_id="sent"), entry(2, record_id="begun"), entry(3, record_id="unknown")])
    index.put([entry(11, record_id="sent"), entry(12, record_id="begun", outcome=None, status="running")])
    MemorySink(DeadStore(), LocalRecord("records"), Containment())._forget_what_came(index)
    assert {e.record_id for e in kept.entries()} == {"begun", "unknown"}
