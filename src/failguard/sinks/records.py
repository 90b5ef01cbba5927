"""Reading local records back."""

from __future__ import annotations

import difflib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from failguard.core.containment import PartError
from failguard.core.finding import Status
from failguard.errors import InputError
from failguard.report.run_report import RunReport
from failguard.sinks.artifacts import record_from_artifacts

__all__ = [
    "DELIVERY",
    "REPORT",
    "find_record",
    "is_alive",
    "load_record",
    "read_delivery",
    "record_folders",
    "this_process",
]

REPORT = "failguard/report.json"
DELIVERY = "failguard/delivery.json"


def load_record(path: str | os.PathLike[str]) -> RunReport:
    """Read a run's report from its folder.

    Where the report itself is damaged, as after a full disk, what its smaller files hold is put together, with a note.
    What later sinks did (addresses, errors) is taken from the delivery file. A run that is still ``running`` while its
    process is gone from this machine is reported as ``interrupted``, with a note.

    Args:
        path: The folder of a record, or its ``failguard/report.json``.

    Raises:
        InputError: There is no record, or it cannot be read.
    """
    path = Path(path)
    folder = path.parent.parent if path.name == "report.json" else path
    if not (folder / REPORT).is_file():
        raise InputError(f"{os.fspath(path)!r} holds no record of a run: there is no {REPORT} in it.")
    try:
        report = RunReport.load(folder / REPORT)
    except InputError as damaged:
        report = _from_the_rest(folder, damaged)
    delivery = read_delivery(folder)
    report.locations = {**report.locations, **_texts(delivery.get("locations")), "local": str(folder)}
    known = {e.part for e in report.part_errors}
    for error in delivery.get("part_errors") or ():
        if isinstance(error, Mapping) and error.get("part") not in known:
            report.part_errors.append(PartError(str(error.get("part")), str(error.get("message", ""))))
    for note in delivery.get("notes") or ():
        if note not in report.notes:
            report.notes.append(str(note))
    if report.status is Status.RUNNING and is_alive(delivery.get("process")) is False:
        report.status = Status.INTERRUPTED
        report.notes.append("The process ended without a word: it was killed, or the machine went down.")
        report.diagnosis = replace(report.diagnosis, summary="The process was killed while it trained.")
    return report


def _from_the_rest(folder: Path, damaged: InputError) -> RunReport:
    """What the smaller files of a record say, where its report cannot be read."""

    def read(name: str) -> str:
        try:
            return (folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    note = f"{REPORT} is damaged; this is what the other files of the record hold."
    try:
        record = record_from_artifacts(read, note)
        report = RunReport.from_dict({**record, "run": {"record_id": folder.name}})
    except InputError as error:
        raise InputError(f"{damaged} The rest of the record cannot be used either: {error}") from damaged
    return report


def find_record(record_dir: str | os.PathLike[str], name: str) -> Path:
    """The folder of a record, by its id or the beginning of it.

    Raises:
        InputError: None fits, or several do; the message names near ones.
    """
    names = [folder.name for folder in record_folders(record_dir)]
    if name in names:
        return Path(record_dir) / name
    fitting = [n for n in names if n.startswith(name)] if name else []
    if len(fitting) == 1:
        return Path(record_dir) / fitting[0]
    where = f"in {os.fspath(record_dir)!r}"
    if fitting:
        raise InputError(f"{len(fitting)} records {where} begin with {name!r}: {_some(fitting)}. Type more of the id.")
    if not names:
        raise InputError(f"There are no records {where}. Pass the directory that record_dir named.")
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or [n for n in names if name and name in n]
    raise InputError(f"There is no record {name!r} {where}. Near ones: {_some(near or names[::-1])}.")


def record_folders(record_dir: str | os.PathLike[str]) -> Iterator[Path]:
    """The folders of a record directory that hold a record, oldest first."""
    try:
        folders = sorted(Path(record_dir).iterdir())
    except OSError:
        return
    yield from (folder for folder in folders if (folder / REPORT).is_file())


def read_delivery(folder: Path) -> dict[str, Any]:
    """The delivery file of a record; empty where there is none that can be read."""
    try:
        state = json.loads((folder / DELIVERY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def this_process() -> dict[str, Any]:
    """What identifies this process, also after its number was given to another."""
    import psutil

    return {"pid": os.getpid(), "host": socket.gethostname(), "created_s": psutil.Process().create_time()}


def is_alive(process: Any) -> bool | None:
    """Whether a process of :func:`this_process` still lives; ``None`` where this machine cannot tell."""
    import psutil

    if not isinstance(process, Mapping) or process.get("host") != socket.gethostname():
        return None
    try:
        created_s = psutil.Process(int(process["pid"])).create_time()
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, KeyError, TypeError, ValueError):
        return None
    return abs(created_s - float(process.get("created_s", created_s))) < 2.0


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _texts(value: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in value.items()} if isinstance(value, Mapping) else {}
