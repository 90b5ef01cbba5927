"""Sends the records that the tracking server could not take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from failguard.core.finding import Status
from failguard.core.redaction import REDACTED
from failguard.errors import FailGuardError, InputError
from failguard.sinks.files import write_json
from failguard.sinks.mlflow_session import Target, connect
from failguard.sinks.records import DELIVERY, load_record, read_delivery, record_folders

__all__ = ["SyncResult", "publish_record", "sync"]


@dataclass(slots=True)
class SyncResult:
    """What became of the records that MLflow did not have.

    Attributes:
        sent: Record id to the address of its run.
        failed: Record id to why it could not be sent.
        running: Ids of records whose run has not ended.
    """

    sent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)


def sync(record_dir: str | os.PathLike[str] = "failguard_runs", tracking_uri: str | None = None) -> SyncResult:
    """Send every record that is marked undelivered. A second call finds nothing left to do.

    Args:
        record_dir: The directory of the records.
        tracking_uri: A store to send to in place of the one that was tried.

    Raises:
        InputError: The directory does not exist.
    """
    if not Path(record_dir).is_dir():
        raise InputError(f"There is no record directory {os.fspath(record_dir)!r}. Pass the one record_dir named.")
    result = SyncResult()
    for folder in record_folders(record_dir):
        if _undelivered(folder) is None:
            continue
        try:
            address = publish_record(folder, tracking_uri)
        except FailGuardError as error:
            result.failed[folder.name] = str(error)
            continue
        if address is None:
            result.running.append(folder.name)
        else:
            result.sent[folder.name] = address
    return result


def publish_record(path: str | os.PathLike[str], tracking_uri: str | None = None) -> str | None:
    """Send one record to MLflow: to the run it belongs to, else to a new one.

    What the store has already is not sent twice.

    Args:
        path: The folder of the record.
        tracking_uri: A store to send to in place of the one that was tried.

    Returns:
        The address of the run; ``None`` where the run has not ended.

    Raises:
        InputError: The record cannot be read.
        FailGuardError: The store cannot be used; the message names it.
    """
    folder = Path(path)
    report = load_record(folder)
    if report.status is Status.RUNNING:
        return None
    state = _undelivered(folder) or {}
    target = Target(
        tracking_uri=state.get("tracking_uri"),
        run_id=state.get("run_id"),
        experiment=state.get("experiment") or report.run.experiment,
        run_name=state.get("run_name") or report.run.run_name,
        owned=bool(state.get("owned")),
    )
    if tracking_uri is not None:
        target = replace(target, tracking_uri=tracking_uri)
    elif REDACTED in (target.tracking_uri or ""):
        # The address carried user info, which is in no file. The environment may still hold it.
        target = replace(target, tracking_uri=None)
    session = connect(target)
    session.publish(report)
    assert session.location is not None
    _mark_delivered(folder, session.location, session.run_id)
    return session.location


def _undelivered(folder: Path) -> dict[str, Any] | None:
    """The MLflow part of a record's delivery file, where it says that MLflow does not have the record."""
    sinks = read_delivery(folder).get("sinks")
    state = sinks.get("mlflow") if isinstance(sinks, Mapping) else None
    return dict(state) if isinstance(state, Mapping) and state.get("state") != "delivered" else None


def _mark_delivered(folder: Path, location: str, run_id: str | None) -> None:
    state = read_delivery(folder)
    sinks, locations = dict(state.get("sinks") or {}), dict(state.get("locations") or {})
    sinks["mlflow"] = {**(sinks.get("mlflow") or {}), "state": "delivered", "run_id": run_id}
    locations["mlflow"] = location
    write_json(folder / DELIVERY, {**state, "sinks": sinks, "locations": locations})
