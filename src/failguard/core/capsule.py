"""A capsule: a folder in the record of a failed run with what it takes to train some of its steps once more."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from failguard.errors import FailGuardError, InputError

__all__ = [
    "BATCHES_BYTES",
    "FOLDER",
    "MODEL_SHARE",
    "WINDOW_STEPS",
    "CapsuleInfo",
    "CapsuleRefused",
    "folder_bytes",
    "read_info",
    "write_info",
]

FOLDER = "capsule"  # within the folder of a record
INFO = "capsule.json"
REPORT = "report.json"
SCHEMA_VERSION = 1

WINDOW_STEPS = 32  # batches that are kept from the start on, and from each later moment on
BATCHES_BYTES = 64 << 20  # all batches that are held, at any time
MODEL_SHARE = 0.1  # of free memory that copies of weights and optimizer state may take in all


class CapsuleRefused(FailGuardError):
    """A run cannot be captured. The text says why, without a full stop."""


@dataclass(slots=True)
class CapsuleInfo:
    """What a capsule holds, as plain values. Reading it runs no code of anybody's.

    Attributes:
        framework: ``"torch"``, ``"lightning"`` or ``"keras"``.
        failed_step: Step of the first finding at error or above.
        moments: Steps that training can be taken up from, each with the number of batches from there on.
        size_bytes: Of all files.
        accumulate_batches: Training batches per update.
        clipping: ``"norm 1.0"`` or ``"value 0.5"`` where the framework clips; ``None``: nothing that is known of.
        backend: Of Keras.
        search_path: Where Python looked for modules, for classes that are named rather than stored.
        versions: Of packages.
        notes: What could not be captured.
    """

    framework: str
    failed_step: int | None = None
    moments: list[dict[str, int]] = field(default_factory=list)
    size_bytes: int = 0
    accumulate_batches: int = 1
    clipping: str | None = None
    backend: str | None = None
    search_path: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def batches(self) -> int:
        """Batches in it."""
        return sum(moment["batches"] for moment in self.moments)


def write_info(folder: Path, info: CapsuleInfo) -> None:
    """Write the description of a capsule, with its size.

    Raises:
        OSError: It cannot be written.
    """
    info.size_bytes = folder_bytes(folder)
    text = json.dumps({"schema_version": SCHEMA_VERSION, **asdict(info)}, indent=1)
    (folder / INFO).write_text(text, encoding="utf-8", errors="replace")


def read_info(folder: str | os.PathLike[str]) -> CapsuleInfo:
    """The description of a capsule.

    Raises:
        InputError: There is none, it is damaged, or a newer failguard wrote it.
    """
    path = Path(folder) / INFO
    if not path.is_file():
        raise InputError(
            f"{os.fspath(folder)!r} is no capsule: there is no {INFO} in it. Capsules are written for failing runs of "
            "FailGuard(verify_remedies=True) or verify_remedies='capture'."
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{os.fspath(path)!r} is damaged: {error}.") from error
    if not isinstance(values, Mapping) or not isinstance(values.get("framework"), str):
        raise InputError(f"{os.fspath(path)!r} is damaged: it names no framework.")
    if int(values.get("schema_version") or 0) > SCHEMA_VERSION:
        raise InputError(f"{os.fspath(path)!r} was written by a newer failguard. Update this one.")
    return CapsuleInfo(**_known(values))


def folder_bytes(folder: Path) -> int:
    """Size of the files in a folder."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f.name: values[f.name] for f in fields(CapsuleInfo) if f.name in values}
