"""What can be wrong with single batches, from plain arrays: bad values, labels, copies, validation rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from failguard.core.batch_values import BadValues, UsualRange, bad_values, first_rows
from failguard.core.finding import Finding, Severity, Where, row_words
from failguard.core.row_overlap import RowOverlap

__all__ = ["BatchChecks"]

MOST_ELEMENTS = 1_048_576  # of an array that are looked at
KEPT_BATCHES = 64  # whose hashes are kept
LEAST_CONSTANT = 64  # elements, for a statement on equal ones
LOPSIDED = 10.0  # labels of the most frequent class for one of the rarest
RARE = 0.2  # share of the rarest class, times the number of classes
COUNTED_AT = (8, 16, 32, 64)  # batches after which the classes seen so far are compared
LEAST_EXPECTED = 20  # labels of a class if all were equally frequent: fewer may be missing by chance
IGNORED = (-1, -100)  # labels that usually mean so


@dataclass(frozen=True, slots=True)
class _Found:
    code: str
    tensor: str
    text: str
    evidence: dict[str, float]
    rows: tuple[int, ...] = ()
    batch: int | None = None  # where it is not the one in progress


@dataclass(slots=True)
class _Copies:
    """Hashes of the batches of an epoch. Once batches were left out, no more are taken."""

    is_over: bool = False
    hashes: dict[int, int] = field(default_factory=dict)
    last: tuple[int, int] | None = None
    copy: tuple[int, int] | None = None


class BatchChecks:
    """Looks at batches in the order in which they come. It keeps hashes and counts, never a batch.

    Args:
        raises: Codes whose findings are errors.
        ignore: Codes never to report.
        rows_a_batch: What is called a batch are that many consecutive rows of the data: rows are named by their place
            in the data. ``None``: real batches.
    """

    def __init__(
        self, raises: Sequence[str] = (), ignore: Sequence[str] = (), *, rows_a_batch: int | None = None
    ) -> None:
        self._raises, self._ignored = frozenset(raises), frozenset(ignore)
        self._rows_a_batch = rows_a_batch
        self._seen = 0
        self._copies = _Copies()
        self._said: set[tuple[str, str]] = set()
        self._classes: dict[int, int] = {}
        self._has_classes = True
        self._ranges = {"input": UsualRange(), "target": UsualRange()}
        self._rows = RowOverlap()
        self._waiting: list[Finding] = []

    # Training batches

    def add(
        self,
        inputs: Sequence[Any],
        targets: Sequence[Any],
        step: int,
        epoch: int,
        classes: int | None = None,
        *,
        class_loss: str | None = None,
    ) -> None:
        """Look at a batch. What is found waits for :meth:`take`.

        Args:
            inputs: Arrays, the samples first.
            targets: The same.
            step: Index of the batch.
            epoch: Its epoch.
            classes: Width of the model's output where labels are class numbers; ``None``: not known.
            class_loss: Name of the loss where it takes class numbers, as whole numbers or floats; ``None``: not known.
        """
        self._seen += 1
        for found in (
            *self._values(inputs, targets),
            *_constant(inputs),
            *self._labels(targets, classes, class_loss),
            *self._repeated(inputs, step, epoch),
        ):
            self._say(found, step, epoch)
        if self._rows_a_batch is None:
            self._rows.add_training(inputs, epoch)

    def add_values(self, inputs: Sequence[Any], targets: Sequence[Any], step: int, epoch: int) -> None:
        """Look at the values of a batch alone, out of turn. For the arguments see :meth:`add`."""
        for found in self._values(inputs, targets):
            self._say(found, step, epoch)

    def add_rows(self, inputs: Sequence[Any], *, validation: bool = False) -> None:
        """Take in an even sample of the rows of the data, for :meth:`compare`.

        Args:
            inputs: Arrays, the samples first.
            validation: They are those of the validation.
        """
        self._rows.add_data(inputs, validation=validation)

    def say_bad_values(self, part: str, bad: BadValues, step: int, epoch: int) -> None:
        """NaN or Inf were found elsewhere: on a device, or in the data that batches are made from.

        Args:
            part: ``"input"`` or ``"target"``.
            bad: What was found.
            step: Index of the batch; -1 before the first, for rows of the data.
            epoch: Its epoch.
        """
        self._say(_not_finite(part, bad), step, epoch)

    def take(self) -> list[Finding]:
        """The findings since the last time, oldest first."""
        waiting, self._waiting = self._waiting, []
        return waiting

    # Validation batches

    @property
    def wants_validation(self) -> bool:
        """More validation batches are to be shown."""
        return self._rows.wants_validation and "data.leakage" not in self._ignored

    def add_validation(self, inputs: Sequence[Any]) -> None:
        """Take in the inputs of a validation batch. Show each of them once."""
        self._rows.add_validation(inputs)

    def compare(self, train_samples: int | None, step: int, epoch: int) -> None:
        """Look for the validation rows seen among the training rows seen.

        Args:
            train_samples: Training rows in all; ``None``: not known, or all of them were seen.
            step: Newest batch.
            epoch: Its epoch.
        """
        overlap = self._rows.compare(train_samples)
        if overlap is None:
            return
        text = (
            f"{overlap.inside:,} of {overlap.rows:,} validation rows looked at are among {overlap.training_rows:,} "
            "training rows"
        )
        if overlap.share > 1.05 * overlap.inside / overlap.rows:
            text += f" looked at; of all training rows that would be {overlap.share:.0%}"
        evidence = {"overlap": float(overlap.inside), "share": overlap.share, "rows": float(overlap.rows)}
        self._say(_Found("data.leakage", "input", f"{text}.", evidence), step, epoch, about_batch=False)

    # How it is done

    def _say(self, found: _Found, step: int, epoch: int, *, about_batch: bool = True) -> None:
        key = (found.code, found.tensor)
        if key in self._said or found.code in self._ignored:
            return
        self._said.add(key)
        at = step if found.batch is None else found.batch
        text, rows, batch = found.text, found.rows, at if about_batch else None
        if about_batch:
            if self._rows_a_batch is not None and at >= 0:
                rows = tuple(row + at * self._rows_a_batch for row in rows)
            words = f" ({row_words(rows)})" if rows else ""
            subject = "Training data" if at < 0 else self._name(at)
            text = f"{subject}: {text}{words}."
            batch = at if at >= 0 and self._rows_a_batch is None else None
        severity = Severity.ERROR if found.code in self._raises else Severity.WARNING
        where = Where(tensor=found.tensor, batch=batch, rows=rows)
        self._waiting.append(Finding(found.code, severity, step, epoch, text, where, found.evidence))

    def _name(self, at: int) -> str:
        n = self._rows_a_batch
        return f"Batch {at}" if n is None else f"Rows {at * n:,} to {(at + 1) * n - 1:,}"

    def _values(self, inputs: Sequence[Any], targets: Sequence[Any]) -> Iterator[_Found]:
        """NaN, Inf, and magnitudes that no batch before came near."""
        for part, arrays in (("input", inputs), ("target", targets)):
            bad = next((b for b in map(bad_values, arrays) if b is not None), None)
            if bad is not None:
                yield _not_finite(part, bad)
                continue
            usual = self._ranges[part]
            far = usual.add(arrays)
            if far is not None:
                top, bad = far
                text = f"{bad.count or 0:,} values up to {top:.3g} in the {part}; until then the largest was "
                evidence = {"largest": top, "largest_before": usual.largest, "rows": float(bad.rows)}
                yield _Found("data.outliers", part, f"{text}{usual.largest:.3g}", evidence, bad.first)

    def _repeated(self, inputs: Sequence[Any], step: int, epoch: int) -> Iterator[_Found]:
        """Batches that came before in the epoch, as from workers that share a seed.

        A loop that goes over the same few batches again shows nothing new after the first copy, and is in order. So a
        copy is told when a new batch has followed, and only among batches that are all seen.
        """
        seen = self._copies
        if seen.last is not None and epoch != seen.last[1]:
            seen.hashes.clear()
            seen.copy = None
        seen.is_over = seen.is_over or len(seen.hashes) >= KEPT_BATCHES or (seen.last or (step - 1,))[0] != step - 1
        seen.last = (step, epoch)
        if seen.is_over or not inputs or not any(_varies(a) for a in inputs):
            return
        # 64 bits are enough for 64 batches, at several times the speed of a cryptographic hash.
        first = seen.hashes.setdefault(hash(tuple((a.shape, _even(a).tobytes()) for a in inputs)), step)
        if first != step:
            seen.copy = seen.copy or (step, first)
        elif seen.copy is not None:
            copy, original = seen.copy
            name = self._name(original)
            text = f"inputs are those of {name[0].lower()}{name[1:]}, value by value: do workers share a seed?"
            yield _Found("data.repeated_batch", "input", text, {"first_batch": float(original)}, batch=copy)

    def _labels(self, targets: Sequence[Any], classes: int | None, class_loss: str | None) -> Iterator[_Found]:
        import numpy as np

        values = targets[0] if len(targets) == 1 and targets[0].size else None
        if values is not None and class_loss is not None and values.dtype.kind == "f":
            finite = np.isfinite(values)
            broken = finite & (values != np.round(values))
            if broken.any():
                example = float(values[broken].flat[0])
                text = (
                    f"labels are no whole numbers (such as {example:g}): {class_loss} cuts off what follows the point"
                )
                yield _Found("data.labels", "target", text, {"bad_labels": float(broken.sum())}, first_rows(broken))
            values = np.where(finite, values, IGNORED[0]).astype(np.int64)
        if values is None or values.size == 0 or values.dtype.kind not in "iu":
            self._has_classes = self._has_classes and not targets
            return
        if classes is not None and classes > 1:
            bad = (values >= classes) | (values < 0) & ~np.isin(values, IGNORED)
            if bad.any():
                text = (
                    f"labels reach from {int(values.min())} to {int(values.max())}, but the model has {classes} "
                    f"outputs, for 0 to {classes - 1}"
                )
                evidence = {"bad_labels": float(bad.sum()), "classes": float(classes)}
                yield _Found("data.labels", "target", text, evidence, first_rows(bad))
        if self._has_classes and self._seen <= COUNTED_AT[-1] and values.max() < 1_000 and values.min() >= -100:
            yield from self._counted(values)

    def _counted(self, values: Any) -> Iterator[_Found]:
        import numpy as np

        for c, n in zip(*np.unique(values[values >= 0], return_counts=True), strict=True):
            self._classes[int(c)] = self._classes.get(int(c), 0) + int(n)
        counts, total = self._classes, sum(self._classes.values())
        if len(counts) < 2 or total < LEAST_EXPECTED * len(counts) or self._seen not in COUNTED_AT:
            return
        rarest, commonest = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        ratio, share = counts[commonest] / counts[rarest], counts[rarest] / total
        if ratio >= LOPSIDED and share * len(counts) < RARE:
            text = (
                f"class {rarest} has {counts[rarest]:,} of the {total:,} labels seen so far, class {commonest} has "
                f"{counts[commonest]:,} ({ratio:.3g}:1)"
            )
            yield _Found("data.imbalance", "target", text, {"rarest_share": share, "ratio": ratio})


def _not_finite(part: str, bad: BadValues) -> _Found:
    evidence = {"rows": float(bad.rows)}
    what = "values"
    if bad.count is not None:
        evidence["non_finite_values"] = float(bad.count)
        what = f"{bad.count:,} value{'s' if bad.count > 1 else ''}"
    return _Found("data.non_finite", part, f"{what} of NaN or Inf in the {part}", evidence, bad.first)


def _constant(inputs: Sequence[Any]) -> Iterator[_Found]:
    """All elements of the batch are equal: a black image, a tokenizer that failed."""
    large = [a for a in inputs if a.ndim > 1 and len(a) > 1 and a.size > LEAST_CONSTANT]
    if large and not any(_varies(a) for a in large):  # one of several may be a mask of ones
        value = float(large[0].reshape(-1)[0])
        text = f"all {large[0].size:,} values of the input are {value:g}"
        yield _Found("data.constant_feature", "input", text, {"value": value})


def _even(array: Any) -> Any:
    return array.reshape(-1)[:: 1 + array.size // MOST_ELEMENTS]


def _varies(array: Any) -> bool:
    flat = _even(array)
    return bool(flat.size and (flat != flat[0]).any())
