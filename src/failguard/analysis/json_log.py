"""JSON that other tools leave: JSON Lines, the history of Keras, the trainer state of HF transformers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from failguard.analysis.files import AS_LATIN_1, encoding_of, trouble_named
from failguard.analysis.log import Log, read_series
from failguard.analysis.records import from_records, value_of
from failguard.errors import InputError

__all__ = ["read_json", "read_json_lines"]

# The last record of HF's log is a summary of the run; its "train_loss" is a mean over all steps.
SUMMARY_KEY = "train_runtime"
TIMINGS = (
    "_runtime",
    "_samples_per_second",
    "_steps_per_second",
    "_jit_compilation_time",
    "total_flos",
    "_tokens_seen",
)


def read_json_lines(file: Path) -> Log:
    """Read a file with one JSON object a line. Lines that are none, such as one cut short, are left out and named.

    Raises:
        InputError: The file cannot be read, or holds no object with a number.
    """
    bad: dict[int, str] = {}

    def records() -> Iterator[Mapping[str, Any]]:
        bad.clear()
        with trouble_named(file), file.open(encoding=encoding_of(file), errors=AS_LATIN_1) as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    record = None
                if isinstance(record, dict):
                    yield record
                elif len(bad) < 1000:
                    bad[number] = line.strip()[:40]

    try:
        log = from_records(records, f"{str(file)!r}")
    except InputError as error:
        first = next(iter(bad.items()), None)
        where = f" Line {first[0]} is no JSON object: {first[1]!r}." if first else ""
        raise InputError(
            f"{error}{where} JSON Lines hold one object a line, such as {{'step': 1, 'loss': 0.5}}."
        ) from None
    if bad:
        count = len(bad) if len(bad) < 1000 else "1000 or more"
        log.notes.append(f"{count} line(s) are no JSON object and were left out, the first is line {next(iter(bad))}.")
    return log


def read_json(file: Path) -> Log:
    """Read a JSON file: the ``history`` of a Keras ``History``, HF's ``trainer_state.json``, a list of records.

    Raises:
        InputError: The file cannot be read, or is something else.
    """
    with trouble_named(file):
        text = file.read_text(encoding=encoding_of(file), errors=AS_LATIN_1)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if "Extra data" in str(error):  # several documents: JSON Lines under another name
            return read_json_lines(file)
        raise InputError(f"{str(file)!r} is no JSON, or cut short: {error}.") from None
    if isinstance(content, list) and any(isinstance(record, dict) for record in content):
        return from_records(lambda: (r for r in content if isinstance(r, dict)), f"{str(file)!r}")
    if isinstance(content, dict):
        if isinstance(content.get("log_history"), list):
            return _trainer_state(file, content)
        history = content.get("history")
        return _series(file, history if isinstance(history, dict) else content)
    raise InputError(f"{str(file)!r} holds {type(content).__name__}, and no series or records of numbers.")


def _series(file: Path, content: Mapping[str, Any]) -> Log:
    """Name to list of numbers; or, as pandas writes it, to a mapping from row number to number."""
    series: dict[str, list[float | None]] = {}
    for name, values in content.items():
        if isinstance(values, dict) and values and all(key.isdigit() for key in values):
            values = [values[key] for key in sorted(values, key=int)]
        if isinstance(values, list) and any(value_of(v) is not None for v in values):
            series[name] = [value_of(v) for v in values]
    if not series:
        raise InputError(
            f"{str(file)!r} holds no series of numbers. failguard.analyze reads the JSON of History.history "
            "({'loss': [0.9, 0.5]}), trainer_state.json, and lists of records."
        )
    log = read_series(series)
    log.nan_may_be_a_gap = False
    return log


def _trainer_state(file: Path, state: Mapping[str, Any]) -> Log:
    history: Sequence[Any] = state["log_history"]

    def records() -> Iterator[Mapping[str, Any]]:
        for record in history:
            if isinstance(record, dict) and SUMMARY_KEY not in record:
                yield {name: value for name, value in record.items() if not name.endswith(TIMINGS)}

    log = from_records(records, f"the log_history of {str(file)!r}")
    batch_size = state.get("train_batch_size")
    if isinstance(batch_size, int):
        log.origin.config["train_batch_size"] = batch_size
    planned = state.get("max_steps")
    reached = state.get("global_step")
    if isinstance(planned, int) and isinstance(reached, int) and 0 < reached < planned:
        log.notes.append(f"The run had made {reached} of {planned} planned steps.")
    return log
