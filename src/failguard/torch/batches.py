"""A batch of any structure: its inputs and targets, its size, the classes in it, values that are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity, Where
from failguard.torch.measure import is_finite

__all__ = ["BatchReader", "batch_size", "class_prior_entropy", "non_finite_part", "split", "tensors"]

TARGET_KEYS = ("labels", "label", "targets", "target", "y")
MAX_CLASSES = 1000  # more are a vocabulary; counts of those would fill the record
DATA_CHECKS = 3  # batches looked at for values that are not finite
# Targets are counted in the first 16 batches, then in every 32nd (data may be sorted), 80 batches in all.
COUNTED_IN_A_ROW, THEN_EVERY, COUNTED_BATCHES = 16, 32, 80
GROUP = 64  # samples whose mix of classes is looked at
SORTED = 0.6  # of the entropy that shuffled data would have in a group
MAX_DEPTH = 6  # of nested containers; an object counts twice


def tensors(batch: Any, depth: int = 0) -> Iterator[Tensor]:
    """Every tensor in a nest of mappings, sequences and data objects, in order."""
    if isinstance(batch, Tensor):
        yield batch
    elif depth >= MAX_DEPTH:
        return
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors(value, depth + 1)
    elif isinstance(batch, list | tuple):
        for value in batch:
            yield from tensors(value, depth + 1)
    elif hasattr(batch, "__dict__") and not callable(batch):
        for value in vars(batch).values():
            yield from tensors(value, depth + 2)


def split(batch: Any) -> tuple[Any, Any]:
    """A batch as inputs and targets, by the usual conventions.

    Args:
        batch: ``(inputs, ..., targets)``, a mapping with a key such as ``"labels"``, or inputs alone.

    Returns:
        Inputs and targets; ``None`` for targets that cannot be told.
    """
    if isinstance(batch, Mapping):
        for key in TARGET_KEYS:
            if key in batch:
                return {k: v for k, v in batch.items() if k != key}, batch[key]
        return batch, None
    if isinstance(batch, list | tuple) and len(batch) >= 2:
        return (batch[0] if len(batch) == 2 else batch[:-1]), batch[-1]
    return batch, None


def batch_size(batch: Any) -> int | None:
    """Length of the first dimension of the first tensor that has one."""
    return next((int(t.shape[0]) for t in tensors(batch) if t.dim()), None)


def non_finite_part(batch: Any) -> str | None:
    """``"input"`` or ``"target"`` where the batch holds NaN or Inf, else ``None``."""
    inputs, targets = split(batch)
    for part, values in (("input", inputs), ("target", targets)):
        if not all(is_finite(t) for t in tensors(values)):
            return part
    return None


class BatchReader:
    """Learns about the data from the first batches of a run, and then is done.

    On an accelerator reading a value would wait for it, so what is read there is kept and taken in at :meth:`settle`,
    between epochs.

    Attributes:
        next_at: Index of the next batch to be read; infinite when nothing more is to be learned.
        trivial_from: What a constant predictor's loss may be taken from: ``"class_prior"``, ``"output_width"``, both,
            or neither, as the loss allows.
    """

    def __init__(self, facts: Facts, *, check_data: bool) -> None:
        self._facts = facts
        self.trivial_from: tuple[str, ...] = ()
        self._checks = DATA_CHECKS if check_data else 0
        self._seen = 0
        self._counts: Tensor | None = None
        self._group: dict[int, int] = {}
        self._group_samples = 0
        self._mixed: list[tuple[float, float]] = []  # of each group: its entropy, and the most it could have
        self._later: list[tuple[int, int, Any]] = []
        self.next_at: float = 0

    def read(self, batch: Any, step: int, epoch: int) -> Finding | None:
        """Look at one training batch.

        Returns:
            A warning if a value is not finite, among the first three batches.
        """
        first = next(tensors(batch), None)
        if self._seen == 0:
            self._facts.batch_size = batch_size(batch)
        self._seen += 1
        self.next_at = step + (1 if self._seen < COUNTED_IN_A_ROW else THEN_EVERY)
        if first is None or self._seen >= COUNTED_BATCHES:
            self.next_at = math.inf
        if first is not None and first.device.type != "cpu":
            if self._seen >= DATA_CHECKS:  # what is kept stays on the device until the epoch's end
                self.next_at = math.inf
            self._later.append((step, epoch, batch))
            return None
        return self._take_in(batch, step, epoch)

    def settle(self) -> list[Finding]:
        """Take in what was kept. Call where waiting for the device does no harm.

        Returns:
            Warnings, as :meth:`read` gives them.
        """
        later, self._later = self._later, []
        found = [self._take_in(batch, step, epoch) for step, epoch, batch in later]
        return [f for f in found if f is not None]

    def _take_in(self, batch: Any, step: int, epoch: int) -> Finding | None:
        self._count(split(batch)[1])
        if self._checks <= 0:
            return None
        self._checks -= 1
        part = non_finite_part(batch)
        if part is None:
            return None
        return Finding(
            code="data.non_finite",
            severity=Severity.WARNING,
            step=step,
            epoch=epoch,
            message=f"Batch {step} holds NaN or Inf in its {part}.",
            where=Where(tensor=part, batch=step),
            evidence={"non_finite_values": float(_count_non_finite(batch))},
        )

    @torch.no_grad()
    def _count(self, targets: Any) -> None:
        """Add the classes among targets to the facts."""
        target = next(tensors(targets), None)
        if target is None or target.numel() == 0 or target.is_complex() or target.is_quantized:
            return
        values = target.detach().flatten().cpu()
        if values.is_floating_point():
            # Binary targets come as floats for a binary cross-entropy; one column of them can be counted.
            one_column = values.numel() == target.shape[0] if target.dim() else True
            if (
                self._facts.target_kind == "continuous"
                or not one_column
                or not bool(((values == 0) | (values == 1)).all())
            ):
                self._facts.target_kind, self._facts.class_counts, self._counts = "continuous", {}, None
                return
        classes = values.to(torch.int64)
        classes = classes[classes >= 0]  # negative ones, such as -100, mean "ignore"
        if classes.numel() == 0 or int(classes.max()) >= MAX_CLASSES:
            return
        counts = torch.bincount(classes)
        self._look_at_order(counts, len(target) if target.dim() else 1)
        if self._counts is not None:
            if len(counts) < len(self._counts):
                counts = torch.nn.functional.pad(counts, (0, len(self._counts) - len(counts)))
            counts[: len(self._counts)] += self._counts
        self._counts = counts
        self._facts.target_kind = "classes"
        self._facts.class_counts = {c: int(n) for c, n in enumerate(counts.tolist()) if n}
        self.weigh_trivial_loss()

    def _look_at_order(self, counts: Tensor, samples: int) -> None:
        """Compare the classes within groups of batches with those of all: sorted data have few classes at a time."""
        for c, n in enumerate(counts.tolist()):
            if n:
                self._group[c] = self._group.get(c, 0) + n
        self._group_samples += samples
        if self._group_samples < GROUP:
            return
        of_group = class_prior_entropy(self._group)
        self._mixed.append((of_group, math.log(sum(self._group.values()))))
        self._group, self._group_samples = {}, 0

    def _is_sorted(self, entropy: float) -> bool:
        """Whether batches hold far fewer classes than batches of shuffled data would."""
        expected = sum(min(entropy, most) for _, most in self._mixed)
        return sum(found for found, _ in self._mixed) < SORTED * expected

    def weigh_trivial_loss(self) -> None:
        """Set the loss of the best constant predictor, where :attr:`trivial_from` and the targets seen allow it."""
        counts, width = self._facts.class_counts, self._facts.model.output_width
        if "class_prior" in self.trivial_from and len(counts) > 1:
            entropy = class_prior_entropy(counts)
            known = not self._is_sorted(entropy)  # else a part of the data was seen, and says nothing of the rest
            self._facts.trivial_loss = entropy if known else None
            self._facts.trivial_loss_source = "class_prior" if known else None
        elif "output_width" in self.trivial_from and not counts and width is not None and width > 1:
            self._facts.trivial_loss = math.log(width)
            self._facts.trivial_loss_source = "output_width"


def class_prior_entropy(class_counts: Mapping[int, int]) -> float:
    """Cross-entropy of always predicting the class frequencies, in nats: -sum(p ln p)."""
    total = sum(class_counts.values())
    return -sum(n / total * math.log(n / total) for n in class_counts.values() if n)


def _count_non_finite(batch: Any) -> int:
    return sum(int((~torch.isfinite(t)).sum()) for t in tensors(batch) if t.is_floating_point())
