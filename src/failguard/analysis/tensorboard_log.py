"""TensorBoard event files, as Lightning's, Keras' and torch's writers leave them."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from failguard.analysis.log import Log
from failguard.analysis.records import from_records
from failguard.errors import InputError

__all__ = ["event_files", "read_events"]

PATTERN = "*tfevents*"
# Keras writes one run into folders beside each other.
PARTS = {"train": "train", "validation": "val", "val": "val", "valid": "val", "eval": "val", "test": "test"}
OTHER_INDEX = "_vs_iterations"  # Keras counts these by updates and all else by epochs
MOST_NAMED = 5


def event_files(folder: Path) -> list[Path]:
    """Event files in a folder and below."""
    return sorted(p for p in folder.rglob(PATTERN) if p.is_file())


def read_events(path: Path) -> Log:
    """Read the scalars of one run.

    Args:
        path: An event file, or the folder of a run, or a folder above it that holds one run only.

    Raises:
        InputError: The files belong to several runs, cannot be read, or hold no scalar; or TensorBoard is missing.
    """
    loader = _loader()
    groups = {"": [path]} if path.is_file() else _groups(path)

    def records() -> Iterator[Mapping[str, Any]]:
        # A folder's files follow one another, as after a resume; folders beside each other go by step.
        streams = [_steps(loader, files, prefix) for prefix, files in groups.items()]
        if len(streams) == 1:
            yield from streams[0]
        else:
            yield from _merged(heapq.merge(*streams, key=lambda record: record["step"]))

    return from_records(records, f"the TensorBoard events in {str(path)!r}")


def _groups(folder: Path) -> dict[str, list[Path]]:
    """Prefix of the names to the files of one run, in the order in which they were written."""
    by_folder: dict[Path, list[Path]] = {}
    for file in event_files(folder):
        by_folder.setdefault(file.parent, []).append(file)
    roots = {parent.parent if parent.name in PARTS else parent for parent in by_folder}
    if len(roots) > 1:
        # torch's add_scalars makes a folder for each line of a picture: below a run, no run of its own.
        roots = {root for root in roots if not any(root != other and root.is_relative_to(other) for other in roots)}
        by_folder = {p: f for p, f in by_folder.items() if p in roots or (p.name in PARTS and p.parent in roots)}
    if len(roots) > 1:
        names = ", ".join(repr(str(root)) for root in sorted(roots)[:MOST_NAMED])
        more = f" and {len(roots) - MOST_NAMED} more" if len(roots) > MOST_NAMED else ""
        raise InputError(f"{str(folder)!r} holds {len(roots)} runs: {names}{more}. Hand in the folder of one.")
    (root,) = roots
    return {
        "" if parent == root else PARTS[parent.name]: sorted(files, key=lambda f: (f.stat().st_mtime, f.name))
        for parent, files in by_folder.items()
    }


def _steps(loader: Any, files: list[Path], prefix: str) -> Iterator[dict[str, Any]]:
    """One record a step: the scalars that were written for it one after the other."""
    record: dict[str, Any] = {}
    for file in files:
        for step, tag, value in _scalars(loader, file):
            if tag.endswith(OTHER_INDEX):
                continue
            name = _name(tag, prefix)
            if record and (record["step"] != step or name in record):
                yield record
                record = {}
            record["step"] = step
            record[name] = value
    if record:
        yield record


def _name(tag: str, prefix: str) -> str:
    if tag == "step":
        return "step_"  # the name of the index here
    return f"{prefix}_{tag}" if prefix and not tag.startswith(prefix) else tag


def _merged(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    whole: dict[str, Any] = {}
    for record in records:
        if whole and (whole["step"] != record["step"] or (whole.keys() & record.keys()) != {"step"}):
            yield whole
            whole = {}
        whole.update(record)
    if whole:
        yield whole


def _scalars(loader: Any, file: Path) -> Iterator[tuple[int, str, float]]:
    from tensorboard.util import tensor_util

    # A file that was cut short ends with an error after the last whole event.
    with contextlib.suppress(Exception):
        for event in loader(str(file)).Load():
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    yield event.step, value.tag, value.simple_value
                elif value.HasField("tensor"):
                    array = tensor_util.make_ndarray(value.tensor)
                    if array.size == 1 and array.dtype.kind in "fiu":
                        yield event.step, value.tag, float(array.reshape(()))


def _loader() -> Any:
    try:
        from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    except ImportError:
        raise InputError(
            "TensorBoard event files are read with TensorBoard's own reader: pip install 'failguard-ml[tensorboard]'"
        ) from None
    return EventFileLoader
