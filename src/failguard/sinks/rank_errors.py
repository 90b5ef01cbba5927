"""Which rank of a distributed run failed first: the others only see that it is gone."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from failguard.core.log import logger
from failguard.core.observation import ExceptionFacts

__all__ = ["FirstError", "first_error", "leave_error"]

FOLDER = ".ranks"
WAIT_S = 3.0
POLL_S = 0.05
KEPT_S = 86_400.0

FirstError = tuple[str, ExceptionFacts]


def leave_error(record_dir: str | os.PathLike[str], exception: ExceptionFacts) -> None:
    """A rank that writes no record leaves its error where the first rank finds it.

    Args:
        record_dir: The same on all ranks.
        exception: What was raised here. Secrets are redacted already.
    """
    folder = _folder(record_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"rank": _rank(), "at": time.time(), "exception": asdict(exception)})
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".part", delete=False, encoding="utf-8") as file:
            file.write(content)
        os.replace(file.name, folder / f"{os.getpid()}.json")
    except OSError:
        logger.debug("failguard: the error of this rank could not be left for the first one", exc_info=True)


def first_error(record_dir: str | os.PathLike[str], since: float, wait_s: float = WAIT_S) -> FirstError | None:
    """The earliest error that another rank of this job has left.

    Args:
        record_dir: The same on all ranks.
        since: Errors before this time, in seconds since 1970, belong to earlier runs.
        wait_s: How long to wait for one, in seconds.

    Returns:
        The rank as far as it is known, and its exception.
    """
    folder, until = _folder(record_dir), time.monotonic() + wait_s
    while True:
        found = []
        for path in folder.glob("*.json"):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                entry = json.loads(path.read_text(encoding="utf-8"))
                if float(entry["at"]) >= since:
                    found.append((float(entry["at"]), str(entry["rank"]), ExceptionFacts(**entry["exception"])))
                elif float(entry["at"]) < time.time() - KEPT_S:
                    path.unlink()
        if found:
            _, rank, exception = min(found, key=lambda entry: entry[0])
            return rank, exception
        if time.monotonic() >= until:
            return None
        time.sleep(POLL_S)


def _folder(record_dir: str | os.PathLike[str]) -> Path:
    """One for a job: processes that meet at one address, or that one process started."""
    meeting = [os.environ.get(name, "") for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT")]
    job = "/".join(meeting) if any(meeting) else str(os.getppid())
    return Path(record_dir) / FOLDER / hashlib.sha256(job.encode()).hexdigest()[:16]


def _rank() -> str:
    return os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "unknown"
