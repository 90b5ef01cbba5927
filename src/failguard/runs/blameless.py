"""Text without the names of people."""

from __future__ import annotations

import re
from collections.abc import Iterable

from failguard.runs.entry import RunEntry
from failguard.runs.judged import member_of

__all__ = ["Blameless"]

_HOME = re.compile(r"(?P<root>/home/|/Users/|[A-Za-z]:\\Users\\)[^/\\\s:\"']+", re.IGNORECASE)
_MAIL = re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+\b")
# Names of accounts that are also words: to hide them would spoil a text and protect nobody.
_NO_PERSON = frozenset(
    {"admin", "ci", "data", "default", "guest", "jupyter", "local", "mlflow", "model", "nobody", "none", "opc", "root"}
    | {"runner", "sagemaker", "service", "system", "test", "tester", "train", "trainer", "ubuntu", "unknown", "user"}
    | {"vscode", "worker"}
)
LEAST_LENGTH = 3


class Blameless:
    """Takes the names of those who had to do with a run out of text, and home folders and mail addresses of anyone.

    Args:
        entries: The runs: who started them, whose they are, and who wrote their notes.
    """

    def __init__(self, entries: Iterable[RunEntry]) -> None:
        names: set[str] = set()
        used = set(_NO_PERSON)  # and an optimizer may be called Adam, too
        for entry in entries:
            names |= {entry.user, member_of(entry), *(note.author for note in entry.notes)}
            used |= {str(v).lower() for v in (*entry.config.values(), *entry.setup.values())}
        people = [n for n in names if len(n) >= LEAST_LENGTH and n.lower() not in used]
        words = sorted(map(re.escape, people), key=lambda word: (-len(word), word))
        self._names = re.compile(rf"(?<![^\W_])(?:{'|'.join(words)})(?![^\W_])", re.IGNORECASE) if words else None

    def __call__(self, text: str) -> str:
        """The text without names."""
        text = _MAIL.sub("someone", _HOME.sub("~", text))
        return text if self._names is None else self._names.sub("someone", text)
