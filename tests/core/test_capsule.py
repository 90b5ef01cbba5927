"""The description of a capsule: plain values, read without running anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from failguard.core.capsule import CapsuleInfo, read_info, write_info
from failguard.errors import InputError


def test_what_was_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"x" * 100)
    info = CapsuleInfo("torch", failed_step=7, moments=[{"step": 0, "batches": 3}, {"step": 64, "batches": 5}])
    write_info(tmp_path, info)
    read = read_info(tmp_path)
    assert read == info
    assert (read.batches, read.size_bytes) == (8, 100)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "verify_remedies=True"),
        ("{", "damaged"),
        ("[]", "names no framework"),
        (json.dumps({"framework": "torch", "schema_version": 99}), "newer failguard"),
    ],
)
def test_what_is_no_capsule_is_refused_with_a_remedy(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "capsule.json").write_text(text)
    with pytest.raises(InputError, match=words):
        read_info(tmp_path)


def test_what_a_later_version_adds_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "capsule.json").write_text(json.dumps({"framework": "keras", "schema_version": 1, "more": 1}))
    assert read_info(tmp_path) == CapsuleInfo("keras")
