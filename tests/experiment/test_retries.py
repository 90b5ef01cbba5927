from __future__ import annotations

import errno
from typing import Any

import pytest

from failguard import ExperimentManager
from failguard.core.run_info import RunInfo
from failguard.errors import ConfigurationError, TrainingFailure
from failguard.experiment.retries import is_transient, wait_s
from failguard.report.run_report import RunReport


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("connection reset by peer"),
        TimeoutError("timed out"),
        RuntimeError("NCCL error: unhandled system error"),
        RuntimeError("CUDA error: device is lost"),
        InterruptedError(errno.EINTR, "Interrupted system call"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ESTALE, "Stale file handle"),
    ],
)
def test_what_passes_by_itself(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        ValueError("bad"),
        KeyError("column"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("uncorrectable ECC error encountered"),
        KeyboardInterrupt(),
        SystemExit(1),
        TrainingFailure("connection reset", RunReport(RunInfo("", ""))),
    ],
)
def test_what_fails_again(error: BaseException) -> None:
    assert not is_transient(error)


def test_waits_grow_and_have_an_end() -> None:
    assert [wait_s(1.0, n) for n in (1, 2, 3, 7, 10_000)] == [1.0, 2.0, 4.0, 60.0, 60.0]
    assert wait_s(0, 5) == 0.0


class Fails:
    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self, config: Any) -> dict[str, int]:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return {"calls": self.calls}


def run(train: Fails, retries: int) -> Any:
    manager = ExperimentManager("churn", sinks=[])
    return manager.run_experiment("a", "b", {}, train, retries=retries, retry_wait_s=0)


def test_only_transient_failures_are_tried_again() -> None:
    result = run(Fails(ConnectionError("reset"), ConnectionError("reset")), 3)
    assert result == {"status": "success", "metrics": {"calls": 3}}
    assert result.attempts == 3
    train = Fails(ValueError("bad"), ConnectionError("reset"))
    assert (run(train, 3)["error"], train.calls) == ("bad", 1)
    train = Fails(*(ConnectionError(str(i)) for i in range(9)))
    result = run(train, 2)
    assert (result["error"], train.calls, result.attempts) == ("2", 3, 3)
    assert run(Fails(ConnectionError("x")), 0).attempts == 1


@pytest.mark.parametrize("keywords", [{"retries": -1}, {"retries": 1.5}, {"retries": True}, {"retry_wait_s": -1}])
def test_bad_numbers(keywords: Any) -> None:
    with pytest.raises(ConfigurationError, match="cannot be used"):
        ExperimentManager("churn", sinks=[]).run_experiment("a", "b", {}, print, **keywords)
