"""What can be wrong with single batches, from plain arrays: bad values, labels, copies."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from failguard.core.finding import Finding, Severity, Where

__all__ = ["BatchChecks"]

MOST_ELEMENTS = 1_048_576  # of an array that are looked at
KEPT_BATCHES = 64  # whose hashes are kept
LEAST_SAMPLES = 64  # for a statement on classes
LEAST_CONSTANT = 64  # elements, for a statement on equal ones
RARE = 0.05  # share of the rarest class, times the number of classes
EXAMPLES = 5


class BatchChecks:
    """Looks at batches in the order in which they come. It keeps hashes and counts, never a batch.

    Args:
        raises: Codes whose findings are errors.
    """

    def __init__(self, raises: Sequence[str] = ()) -> None:
        self._raises = frozenset(raises)
        self._seen = 0
        self._hashes: dict[bytes, int] = {}
        self._last: tuple[int, int] | None = None
        self._copy: tuple[int, int] | None = None
        self._said: set[tuple[str, str]] = set()
        self._classes: dict[int, int] = {}
        self._has_classes = True
        self._waiting: deque[Finding] = deque()

    def add(
        self, inputs: Sequence[Any], targets: Sequence[Any], step: int, epoch: int, classes: int | None = None
    ) -> None:
        """Look at a batch. What is found waits for :meth:`next`.

        Args:
            inputs: Arrays, the samples first.
            targets: The same.
            step: Index of the batch.
            epoch: Its epoch.
            classes: Width of the model's output where labels are class numbers; ``None``: not known.
        """
        self._seen += 1
        for code, tensor, at, message, evidence in (
            *((*found[:2], step, *found[2:]) for found in (*_constant(inputs), *self._labels(targets, classes))),
            *self._copies(inputs, step, epoch),
        ):
            if (code, tensor) in self._said:
                continue
            self._said.add((code, tensor))
            where = Where(tensor=tensor, batch=at)
            text = f"Batch {at}: {message}"
            self._waiting.append(Finding(code, self.severity(code), step, epoch, text, where, evidence))

    def next(self) -> Finding | None:
        """The oldest finding that was not given yet."""
        return self._waiting.popleft() if self._waiting else None

    def severity(self, code: str) -> Severity:
        """Of a finding of this code that the caller makes."""
        return Severity.ERROR if code in self._raises else Severity.WARNING

    def _copies(
        self, inputs: Sequence[Any], step: int, epoch: int
    ) -> Iterator[tuple[str, str, int, str, dict[str, float]]]:
        """Batches that came before in the epoch, as from workers that share a seed.

        A loop that goes over the same few batches again shows nothing new after the first copy, and is in order. So a
        copy is told when a new batch has followed, and only among batches that are all seen.
        """
        if self._last is not None and (epoch != self._last[1] or step != self._last[0] + 1):
            self._hashes.clear()
            self._copy = None
        self._last = (step, epoch)
        if not inputs or len(self._hashes) >= KEPT_BATCHES or not any(_varies(a) for a in inputs):
            return
        digest = hashlib.blake2b(digest_size=16)
        for array in inputs:
            digest.update(str(array.shape).encode())
            digest.update(_even(array).tobytes())
        first = self._hashes.setdefault(digest.digest(), step)
        if first != step:
            self._copy = self._copy or (step, first)
        elif self._copy is not None:
            copy, original = self._copy
            text = f"inputs are those of batch {original}, value by value: do workers share a seed?"
            yield "data.repeated_batch", "input", copy, text, {"first_batch": float(original)}

    def _labels(self, targets: Sequence[Any], classes: int | None) -> Iterator[tuple[str, str, str, dict[str, float]]]:
        import numpy as np

        if len(targets) != 1 or targets[0].size == 0 or targets[0].dtype.kind not in "iu":
            self._has_classes = self._has_classes and not targets
            return
        values = targets[0]
        if classes is not None and classes > 1:
            bad = (values >= classes) | (values < -1) & (values != -100)  # -1 and -100 usually mean "ignore"
            if bad.any():
                rows = np.unique(np.nonzero(bad)[0])[:EXAMPLES].tolist() if values.ndim else [0]
                text = (
                    f"labels reach from {int(values.min())} to {int(values.max())}, but the model has {classes} "
                    f"outputs, for 0 to {classes - 1} (rows {', '.join(map(str, rows))})."
                )
                yield "data.labels", "target", text, {"bad_labels": float(bad.sum()), "classes": float(classes)}
        if not self._has_classes or values.max() >= 1_000 or values.min() < -100:
            return
        for c, n in zip(*np.unique(values[values >= 0], return_counts=True), strict=True):
            self._classes[int(c)] = self._classes.get(int(c), 0) + int(n)
        total = sum(self._classes.values())
        if total < LEAST_SAMPLES or self._seen not in (8, 16, 32, 64):
            return
        if len(self._classes) > 1:
            rarest = min(self._classes, key=lambda c: self._classes[c])
            share = self._classes[rarest] / total
            if share * len(self._classes) < RARE:
                text = f"class {rarest} has {self._classes[rarest]} of the {total} labels seen so far."
                yield "data.imbalance", "target", text, {"rarest_share": share}


def _constant(inputs: Sequence[Any]) -> Iterator[tuple[str, str, str, dict[str, float]]]:
    """All elements of the batch are equal: a black image, a tokenizer that failed."""
    large = [a for a in inputs if a.ndim > 1 and len(a) > 1 and a.size > LEAST_CONSTANT]
    if large and not any(_varies(a) for a in large):  # one of several may be a mask of ones
        value = float(large[0].reshape(-1)[0])
        text = f"all {large[0].size:,} values of the input are {value:g}."
        yield "data.constant_feature", "input", text, {"value": value}


def _even(array: Any) -> Any:
    return array.reshape(-1)[:: 1 + array.size // MOST_ELEMENTS]


def _varies(array: Any) -> bool:
    flat = _even(array)
    return bool(flat.size and (flat != flat[0]).any())
