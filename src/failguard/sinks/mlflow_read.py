"""Reading from an MLflow store: the report of a run, and whether the store can be used. Writes and creates nothing."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from failguard.core.redaction import redact_text
from failguard.errors import FailGuardError, InputError
from failguard.report.run_report import RunReport
from failguard.sinks.artifacts import ANALYSIS, record_from_artifacts
from failguard.sinks.mlflow_session import Session, Target, Unreachable, probe

__all__ = ["StoreCheck", "check_store", "open_store", "read_report", "trouble_named"]

SQLITE_REMEDY = "Set MLFLOW_TRACKING_URI to a store that can be written, such as sqlite:///mlflow.db."


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """What became of a look at the store.

    Attributes:
        uri: Its address without user info.
        usable: Runs can be recorded there now, as far as can be told without writing.
        detail: What was found.
        remedy: What to do where it is not usable, else ``""``.
    """

    uri: str
    usable: bool
    detail: str
    remedy: str = ""


def check_store(tracking_uri: str | None = None) -> StoreCheck:
    """Look whether an MLflow store can be used.

    Args:
        tracking_uri: The store; ``None``: the one MLflow itself would use.
    """
    try:
        uri = tracking_uri or _own_uri()
    except FailGuardError as error:
        return StoreCheck("", False, str(error), "pip install failguard-ml")
    shown = redact_text(uri)
    scheme = urlsplit(uri).scheme.lower()
    if scheme in ("http", "https"):
        try:
            probe(uri)
        except Unreachable as error:
            return StoreCheck(shown, False, "does not answer", str(error))
        return StoreCheck(shown, True, "answers")
    if scheme == "sqlite":
        return _check_sqlite(uri, shown)
    if scheme in ("", "file"):
        if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() != "true":
            return StoreCheck(
                shown, False, "is a file store, which MLflow 3.17 and later refuse", f"{SQLITE_REMEDY} "
                "MLFLOW_ALLOW_FILE_STORE=true turns the old store back on."
            )  # fmt: skip
        folder = Path(url2pathname(urlsplit(uri).path)) if scheme else Path(uri)
        return _check_folder(folder, shown, "is a file store")
    return StoreCheck(shown, True, "was not looked at: failguard can look at http, sqlite and file stores")


def read_report(run_id: str, tracking_uri: str | None = None) -> RunReport:
    """Put a run's report together from what is in MLflow: its artifacts and tags.

    The local record holds more (actions, facts of the model, settings).

    Args:
        run_id: The MLflow run.
        tracking_uri: The store; ``None``: the one MLflow itself would use.

    Raises:
        InputError: There is no such run, or failguard did not watch it.
        FailGuardError: The store cannot be used.
    """
    client, shown = open_store(run_id, tracking_uri)
    uri = tracking_uri or _own_uri()
    with trouble_named(run_id, shown), tempfile.TemporaryDirectory(prefix="failguard_") as folder:
        run = client.get_run(run_id)
        names = {a.path for path in (None, "failguard") for a in client.list_artifacts(run_id, path)}
        if ANALYSIS not in names:
            raise InputError(f"The MLflow run {run_id!r} has no {ANALYSIS}: failguard did not watch it to its end.")

        def text(name: str) -> str:
            if name not in names:
                return ""
            return Path(client.download_artifacts(run_id, name, folder)).read_text(encoding="utf-8", errors="replace")

        experiment_id = run.info.experiment_id
        session = Session(client, uri, Target(uri), run_id=run_id, experiment_id=experiment_id)
        record = record_from_artifacts(text, "Read from MLflow. The local record of the run holds more.")
        record["run"] = {
            "record_id": run.data.tags.get("failguard.record", run_id),
            "started_at": datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(timespec="milliseconds"),
            "framework": run.data.tags.get("failguard.framework", ""),
            "experiment": client.get_experiment(experiment_id).name,
            "run_name": run.info.run_name,
            "mlflow_run_id": run_id,
            "mlflow_tracking_uri": shown,
        }
        record["locations"] = {"mlflow": session.location}
        if run.info.end_time:
            record["progress"]["duration_s"] = (run.info.end_time - run.info.start_time) / 1000
    return RunReport.from_dict(record)


def open_store(run_id: str, tracking_uri: str | None = None) -> tuple[Any, str]:
    """A client for the store of a run.

    Args:
        run_id: The run, for the message.
        tracking_uri: The store; ``None``: the one MLflow itself would use.

    Returns:
        An ``MlflowClient``, and the store's address without user info.

    Raises:
        InputError: The store does not exist yet, so that there is no such run.
        FailGuardError: The store cannot be used.
    """
    check = check_store(tracking_uri)
    if not check.usable:
        raise FailGuardError(f"The MLflow store {check.uri} cannot be read: it {check.detail}. {check.remedy}")
    uri = tracking_uri or _own_uri()
    if uri.startswith("sqlite:") and not _database(uri).exists():
        raise InputError(f"There is no run {run_id!r}: the MLflow store {check.uri} does not exist yet.")
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri), check.uri


def _own_uri() -> str:
    """The store that MLflow itself would use."""
    if os.environ.get("MLFLOW_TRACKING_URI"):  # without loading MLflow, which takes a second
        return os.environ["MLFLOW_TRACKING_URI"]
    try:
        import mlflow
    except ImportError as error:
        raise FailGuardError(f"MLflow cannot be imported ({error}): pip install failguard-ml") from error
    return str(mlflow.get_tracking_uri())


def _database(uri: str) -> Path:
    from sqlalchemy.engine import make_url

    return Path(make_url(uri).database or ":memory:").absolute()


def _check_sqlite(uri: str, shown: str) -> StoreCheck:
    path = _database(uri)
    if not path.exists():
        return _check_folder(path.parent, shown, "is made with the first run")
    try:
        # Read-only: opening it the usual way would make a journal.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2)) as connection:
            connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        return StoreCheck(
            shown, False, f"is no MLflow database ({error})", f"Move {path.name} away, or: {SQLITE_REMEDY}"
        )
    if not os.access(path, os.W_OK):
        return StoreCheck(shown, False, "cannot be written", SQLITE_REMEDY)
    return StoreCheck(shown, True, "is an MLflow database")


def _check_folder(folder: Path, shown: str, detail: str) -> StoreCheck:
    if folder.is_dir() and os.access(folder, os.W_OK):
        return StoreCheck(shown, True, detail)
    what = "cannot be written" if folder.exists() else "does not exist"
    return StoreCheck(shown, False, f"cannot be used: its folder {what}", SQLITE_REMEDY)


@contextmanager
def trouble_named(run_id: str, uri: str) -> Iterator[None]:
    """What MLflow raises becomes an :class:`InputError` that names the run and the store."""
    try:
        yield
    except FailGuardError:
        raise
    except Exception as error:
        reason = redact_text(next(iter(str(error).splitlines()), "") or type(error).__name__).rstrip(". ")
        raise InputError(f"The run {run_id!r} cannot be read from the MLflow store {uri}: {reason}.") from error
