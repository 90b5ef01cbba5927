"""Exceptions that a loader worker raised: the user's line is named, not the loader's."""

from __future__ import annotations

import pytest

from failguard.core.exceptions import exception_facts
from failguard.diagnosis import diagnose_error

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.framework


class Rows(torch.utils.data.Dataset):  # type: ignore[name-defined, misc]
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> object:
        if self.kind == "missing":
            return open("nowhere.bin", "rb")
        if self.kind == "shapes":
            return torch.zeros(index + 1)
        return {"x": 1}["y"]


@pytest.mark.parametrize(
    ("kind", "cause", "words"),
    [
        ("missing", "missing_file_or_column", "test_worker_errors.py:23 in __getitem__"),
        ("shapes", "shape_mismatch", "test_worker_errors.py"),
        ("key", "missing_file_or_column", 'return {"x": 1}["y"]'),
    ],
)
@pytest.mark.parametrize("workers", [0, 1])
def test_the_users_line(kind: str, cause: str, words: str, workers: int) -> None:
    loader = torch.utils.data.DataLoader(Rows(kind), batch_size=4, num_workers=workers)
    with pytest.raises(Exception) as caught:  # noqa: PT011
        list(loader)
    facts = exception_facts(caught.value)
    assert facts.frame is not None
    assert words in facts.frame
    assert diagnose_error(caught.value).causes[0].code == cause
