"""Trials in a process of their own, with bounded time and memory, in an empty folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import monotonic

import psutil

from failguard.core.capsule import CapsuleInfo, read_info
from failguard.core.redaction import redact_text
from failguard.errors import InputError
from failguard.report.run_report import RunReport
from failguard.resources import available_memory_bytes
from failguard.trials.results import Outcome, Verification

__all__ = ["LIMIT_S", "REPORT", "STEPS", "run_trials", "write_report"]

LIMIT_S = 60.0  # for all trials, the start of the process included
STEPS = 48  # updates of a trial
MEMORY_SHARE = 0.5  # of what is free
POLL_S = 0.1
REPORT = "report.json"  # in the capsule: what was diagnosed
RESULT = "result.json"


def run_trials(
    capsule: Path,
    *,
    limit_s: float = LIMIT_S,
    limit_bytes: float | None = None,
    steps: int = STEPS,
    device: str = "cpu",
    replay_only: bool = False,
) -> Verification:
    """Try the remedies of a failed run on its recorded batches.

    The capsule is unpickled there, which runs code that is stored in it: only for capsules of one's own. The process
    works in a temporary folder, sees no tracking server, and ends with this call, also by Ctrl-C.

    Args:
        capsule: Its folder, with the report of the run in it.
        limit_s: Seconds for all trials.
        limit_bytes: Memory of the process; ``None``: half of what is free.
        steps: Updates of one trial.
        device: ``"cpu"``, or the name of a device for torch.
        replay_only: Train the steps again as they were, and change nothing.

    Returns:
        What was found until one of the limits.

    Raises:
        InputError: It is no capsule, or one of a newer failguard.
    """
    info = read_info(capsule)
    if limit_bytes is None:
        free = available_memory_bytes()
        limit_bytes = float("inf") if free is None else MEMORY_SHARE * free
    started = monotonic()
    with tempfile.TemporaryDirectory(prefix="failguard_trials_", ignore_cleanup_errors=True) as folder:
        out, log = Path(folder) / RESULT, Path(folder) / "log.txt"
        work = Path(folder) / "work"
        work.mkdir()
        command = [sys.executable, "-m", "failguard.verify", str(capsule.absolute()), str(out)]
        command += ["--limit-s", str(limit_s), "--steps", str(steps), "--device", device]
        command += ["--replay-only"] if replay_only else []
        with open(log, "wb") as said:
            process = subprocess.Popen(
                command,
                cwd=work,
                env=_environment(info, device, folder),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for this process, which ends that one
            )
            stopped = _wait(process, started + limit_s, limit_bytes)
        found = _read(out)
        if process.returncode != 0:
            reason = stopped or _last_line(log) or f"the process ended with code {process.returncode}"
            if found.outcome is Outcome.NOT_TRIED and not found.reason:
                found.reason = f"Nothing was found out: {reason}."
            else:
                found.remarks.append(f"Not everything was tried: {reason}.")
    found.seconds = monotonic() - started
    found.capsule_bytes = info.size_bytes
    found.remarks = [*found.remarks, *info.notes]
    return found


def write_report(capsule: Path, report: RunReport) -> None:
    """Put the diagnosis into a capsule: what to try.

    Raises:
        OSError: It cannot be written.
    """
    report.dump(capsule / REPORT)


def _wait(process: subprocess.Popen[bytes], until: float, limit_bytes: float) -> str:
    """Wait for the process, and end it at a limit.

    Returns:
        Why it was ended; ``""`` where it ended by itself.
    """
    try:
        while True:
            try:
                process.wait(POLL_S)
                return ""
            except subprocess.TimeoutExpired:
                pass
            if monotonic() > until:
                return "the time was up"
            used = _memory_bytes(process.pid)
            if used > limit_bytes:
                return f"it took {used / 1e9:.1f} GB of memory, more than the {limit_bytes / 1e9:.1f} GB allowed"
    except KeyboardInterrupt:
        return "it was interrupted"
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and those that it started."""
    if process.poll() is None:
        for one in _family(process.pid):
            try:
                one.kill()
            except psutil.Error:
                continue
        process.wait()


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [*parent.children(recursive=True), parent]
    except psutil.Error:
        return []


def _memory_bytes(pid: int) -> int:
    total = 0
    for process in _family(pid):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


def _environment(info: CapsuleInfo, device: str, folder: str) -> Mapping[str, str]:
    """The same modules can be imported, and nothing is told to anybody."""
    own = str(Path(__file__).parents[2])
    changed = {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys([own, *info.search_path])),
        "FAILGUARD_DISABLE": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "WANDB_MODE": "disabled",
        "MPLBACKEND": "Agg",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if info.backend is not None:
        changed["KERAS_BACKEND"] = info.backend
    if device == "cpu":
        changed |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    left_out = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    return {**{k: v for k, v in os.environ.items() if k not in left_out}, **changed}


def _read(out: Path) -> Verification:
    try:
        return Verification.from_dict(json.loads(out.read_text(encoding="utf-8")))
    except OSError:
        return Verification()
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"The result of the trials cannot be read: {error}.") from error


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return redact_text(lines[-1][:300]).rstrip(".") if lines else ""
