"""A batch of any structure: its inputs and targets, its size, the classes in it, values that are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from failguard.core.batch_facts import InputStatistics, TargetStatistics
from failguard.core.class_order import ClassOrder
from failguard.core.data_checks import DataChecks
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.label_counts import LabelCounts
from failguard.torch.measure import is_finite

__all__ = ["BatchReader", "batch_size", "non_finite_part", "split", "tensors"]

TARGET_KEYS = ("labels", "label", "targets", "target", "y")
MAX_CLASSES = 1000  # more are a vocabulary; counts of those would fill the record
DATA_CHECKS = 3  # batches looked at for values that are not finite
# Targets are counted in the first 16 batches, then in every 32nd (data may be sorted), 80 batches in all.
COUNTED_IN_A_ROW, THEN_EVERY, COUNTED_BATCHES = 16, 32, 80
INPUT_BATCHES = 8  # first batches whose inputs are described
SPREADS = {"mse_loss": "squared", "l1_loss": "absolute", "smooth_l1_loss": "huber", "huber_loss": "huber"}
KEPT_BYTES = 32 << 20  # of a batch that is kept on an accelerator; of a larger one only the targets are
MAX_DEPTH = 6  # of nested containers; an object counts twice


def tensors(batch: Any, depth: int = 0) -> Iterator[Tensor]:
    """Every dense tensor in a nest of mappings, sequences and data objects, in order."""
    if isinstance(batch, Tensor):
        if batch.layout is torch.strided and not batch.is_meta and not batch.is_nested:
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
        trivial_from: What a constant predictor's loss may be taken from: ``"class_prior"``, ``"output_width"``,
            ``"target_spread"``, as the loss allows.
        loss_factor: What the loss is multiplied by before it is recorded, beside what it is by name.
    """

    def __init__(self, facts: Facts, *, check_data: bool | DataChecks) -> None:
        self._facts = facts
        self.trivial_from: tuple[str, ...] = ()
        self.loss_factor = 1.0
        self._ignored: int | None = None
        self._checks = DATA_CHECKS if check_data else 0
        self._settings = check_data if isinstance(check_data, DataChecks) else DataChecks()
        self._of_batches = self._settings.checks() if check_data else None
        self._seen = 0
        self._labels = LabelCounts()
        self._targets = TargetStatistics()
        self._inputs = InputStatistics()
        self._order = ClassOrder()
        self._later: list[tuple[int, int, Any]] = []
        self.next_at: float = 0

    def read(self, batch: Any, step: int, epoch: int) -> Finding | None:
        """Look at one training batch.

        Returns:
            A value that is not finite, among the first three batches; or what else is wrong with a batch.
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
            large = sum(t.numel() * t.element_size() for t in tensors(batch)) > KEPT_BYTES
            self._later.append((step, epoch, (None, split(batch)[1]) if large else batch))
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
        inputs, targets = split(batch)
        self._describe(inputs, targets)
        self._count(targets)
        part = None
        if self._checks > 0:
            self._checks -= 1
            part = non_finite_part(batch)
        if part is None or "data.non_finite" in self._settings.ignore:
            return self._check(inputs, targets, step, epoch)
        return Finding(
            code="data.non_finite",
            severity=Severity.ERROR if "data.non_finite" in self._settings.raises else Severity.WARNING,
            step=step,
            epoch=epoch,
            message=f"Batch {step} holds NaN or Inf in its {part}.",
            where=Where(tensor=part, batch=step),
            evidence={"non_finite_values": float(_count_non_finite(batch))},
        )

    @torch.no_grad()
    def _check(self, inputs: Any, targets: Any, step: int, epoch: int) -> Finding | None:
        """What else is wrong with the batch, or was with one before it."""
        checks = self._of_batches
        if checks is None:
            return None
        x, y = ([_array(t) for t in tensors(part) if _has_numbers(t)] for part in (inputs, targets))
        shape = self._facts.output.shape if self._facts.loss_name == "cross_entropy" else None
        classes = shape[1] if shape is not None and len(shape) > 1 and self._ignored is None else None
        if isinstance(inputs, list | tuple):  # of several parts the last may be something else, such as numbers of rows
            classes = None
        checks.add(x, y, step, epoch, classes)
        found = checks.next()
        return None if found is not None and found.code in self._settings.ignore else found

    @torch.no_grad()
    def _describe(self, inputs: Any, targets: Any) -> None:
        """Take the values of a batch into the statistics of inputs and targets."""
        target = next(tensors(targets), None)
        numbers = _array(target) if target is not None and _has_numbers(target) else None
        names_classes = self._facts.target.names_classes
        if self._seen <= COUNTED_IN_A_ROW:
            arrays = [_array(t) for t in tensors(inputs) if _has_numbers(t) and t.is_floating_point()]
            if self._seen <= INPUT_BATCHES:
                self._inputs.add(arrays)
                self._facts.inputs = self._inputs.facts()
            if len(arrays) == 1 and numbers is not None:
                self._order.add(arrays[0], numbers)
                names_classes = self._order.names_classes()
        if numbers is not None:
            self._targets.add(numbers)
            self._facts.target = self._targets.facts()
            self._facts.target.names_classes = names_classes

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
                self._facts.target_kind, self._facts.class_counts = "continuous", {}
                self._facts.label_order = None
                self.weigh_trivial_loss()
                return
        classes = values.to(torch.int64)
        classes = classes[classes >= 0]  # negative ones, such as -100, mean "ignore"
        if self._ignored is not None:
            classes = classes[classes != self._ignored]
        if classes.numel() == 0 or int(classes.max()) >= MAX_CLASSES:
            return
        counts = {c: n for c, n in enumerate(torch.bincount(classes).tolist()) if n}
        self._labels.add(counts, len(target) if target.dim() else 1)
        if self._seen > COUNTED_IN_A_ROW:
            self._labels.cut()
        self._facts.target_kind = "classes"
        self._facts.class_counts = dict(sorted(self._labels.counts.items()))
        self._facts.label_order = self._labels.order()
        self.weigh_trivial_loss()

    def ignore(self, ignored: int | None) -> None:
        """The loss leaves out a class: so does the count."""
        self._ignored = ignored
        if ignored is not None and self._labels.counts.pop(ignored, None) is not None:
            self._facts.class_counts = dict(sorted(self._labels.counts.items()))
            self.weigh_trivial_loss()

    def weigh_trivial_loss(self) -> None:
        """Set the loss of the best constant predictor, where :attr:`trivial_from` and the targets seen allow it."""
        found = self._constant_loss()
        if found is not None:
            loss, source = found
            self._facts.trivial_loss = None if loss is None else self.loss_factor * loss
            self._facts.trivial_loss_source = None if loss is None else source

    def _constant_loss(self) -> tuple[float | None, str] | None:
        """That loss, if it is known, and what it was taken from; ``None`` where there is nothing to take it from."""
        counts, width = self._facts.class_counts, self._facts.model.output_width
        if "target_spread" in self.trivial_from:
            kind = SPREADS.get(self._facts.loss_name or "")
            return None if kind is None else self._targets.trivial_loss(kind), "target_spread"
        if "class_prior" in self.trivial_from and len(counts) > 1:
            return self._labels.prior_entropy(), "class_prior"
        if "output_width" in self.trivial_from and not counts and width is not None and width > 1:
            return math.log(width), "output_width"
        return None


def _has_numbers(tensor: Tensor) -> bool:
    return tensor.numel() > 0 and not (tensor.is_complex() or tensor.is_quantized or tensor.is_sparse)


def _array(tensor: Tensor) -> Any:
    """As NumPy knows it, which has no bfloat16."""
    values = tensor.detach().cpu()
    return (values.float() if values.is_floating_point() else values).numpy()


def _count_non_finite(batch: Any) -> int:
    return sum(int((~torch.isfinite(t)).sum()) for t in tensors(batch) if t.is_floating_point())
