"""What a user hands in, told apart: series, files, folders, ids of MLflow runs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from failguard.analysis.csv_log import read_csv
from failguard.analysis.files import AS_LATIN_1, encoding_of, trouble_named
from failguard.analysis.json_log import read_json, read_json_lines
from failguard.analysis.log import Log, read_series
from failguard.analysis.tensorboard_log import event_files, read_events
from failguard.core.redaction import short
from failguard.errors import InputError
from failguard.sinks.records import REPORT

__all__ = ["RUN_ID", "read"]

RUN_ID = re.compile(r"[0-9a-f]{32}")  # as MLflow makes them
SUPPORTED = (
    "CSV with a header, JSON Lines, the JSON of a Keras History, trainer_state.json, TensorBoard event files or their "
    "folder, the id of an MLflow run, and dicts of series ({'train_loss': [...], 'val_loss': [...]})"
)
IN_FOLDERS = ("metrics.csv", "trainer_state.json", "*.csv", "*.jsonl", "*.json")
MOST_NAMED = 5


def read(source: object, tracking_uri: str | None = None) -> Log:
    """Take in what a user hands in.

    Args:
        source: As for :func:`failguard.analyze`.
        tracking_uri: The MLflow store of a run id; ``None``: the one MLflow itself would use.

    Raises:
        InputError: It cannot be read.
    """
    history = getattr(source, "history", None)
    if isinstance(source, Mapping):
        return read_series(source)
    if isinstance(history, Mapping):  # what model.fit of Keras returns
        return read_series(history)
    if isinstance(source, str | os.PathLike) and os.fspath(source):
        return _read_path(os.fsdecode(source), tracking_uri)
    if hasattr(source, "to_dict") and hasattr(source, "columns"):
        raise InputError("A data frame is not supported as it is. Hand in frame.to_dict('list').")
    raise InputError(f"{short(source)} cannot be analysed. Supported: {SUPPORTED}.")


def _read_path(name: str, tracking_uri: str | None) -> Log:
    path = Path(name)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:  # such as a name that is too long
        raise InputError(f"{short(name)} is no path: {error.strerror}.") from None
    if "\0" in name:
        raise InputError(f"{short(name)} is no path: it holds a null byte.")
    if RUN_ID.fullmatch(name) and not exists:
        from failguard.analysis.mlflow_log import read_mlflow

        return read_mlflow(name, tracking_uri)
    if is_folder:
        return _read_folder(path)
    if "tfevents" in path.name and exists:
        return read_events(path)
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return read_csv(path)
    if suffix in (".jsonl", ".ndjson"):
        return read_json_lines(path)
    if suffix == ".json":
        return read_json(path)
    if not exists:
        raise InputError(f"There is no file {name!r}, and it is no id of an MLflow run (32 hexadecimal digits).")
    return _read_by_content(path)


def _read_by_content(path: Path) -> Log:
    with trouble_named(path), path.open(encoding=encoding_of(path), errors=AS_LATIN_1) as text:
        start = text.read(4096).lstrip()
    if start.startswith("["):
        return read_json(path)
    if start.startswith("{"):
        return read_json_lines(path) if start.split("\n", 1)[0].rstrip().endswith("}") else read_json(path)
    try:
        return read_csv(path)
    except InputError as error:
        raise InputError(f"{error} Supported: {SUPPORTED}.") from error


def _read_folder(folder: Path) -> Log:
    """The one log in a folder."""
    if (folder / REPORT).is_file():
        raise InputError(f"{str(folder)!r} is a record of failguard's own: failguard report {folder}")
    for pattern in IN_FOLDERS:
        found = sorted(p for p in folder.glob(pattern) if p.is_file())
        if len(found) == 1 and "*" not in pattern:
            return _read_path(str(found[0]), None)
        if len(found) == 1 and not event_files(folder):
            return _read_path(str(found[0]), None)
        if len(found) > 1:
            names = ", ".join(repr(str(p)) for p in found[:MOST_NAMED])
            raise InputError(f"{str(folder)!r} is a folder with several logs: {names}. Hand in one of them.")
    if event_files(folder):
        return read_events(folder)
    raise InputError(f"{str(folder)!r} is a folder without a log. Supported: {SUPPORTED}.")
