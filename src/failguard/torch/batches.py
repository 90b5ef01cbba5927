"""A batch of any structure: its inputs and targets, its size, the classes in it, values that are not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from failguard.core.batch_facts import InputStatistics, TargetStatistics
from failguard.core.batch_values import EXAMPLES, BadValues
from failguard.core.class_order import ClassOrder
from failguard.core.data_checks import DataChecks
from failguard.core.facts import Facts
from failguard.core.finding import Finding
from failguard.core.label_counts import LabelCounts
from failguard.core.reading_pace import ReadingPace
from failguard.core.validation_targets import ValidationTargets
from failguard.torch.measure import is_finite

__all__ = [
    "BatchReader",
    "batch_size",
    "mapped",
    "non_finite_part",
    "non_finite_rows",
    "rebuilt",
    "split",
    "tensors",
]

TARGET_KEYS = ("labels", "label", "targets", "target", "y")
MAX_CLASSES = 1000  # more are a vocabulary; counts of those would fill the record
# Each of the first 16 batches is read, then every 32nd at most (data may be sorted). Of 80 in all the targets are
# counted, the others are only checked.
READ_IN_A_ROW, THEN_EVERY, COUNTED_BATCHES = 16, 32, 80
DEVICE_BATCHES = 3  # read in full on an accelerator; they stay on it until the epoch ends
DEVICE_FLAGS = 64  # tensors of an epoch there of which one flag a row is kept: it is not finite
INPUT_BATCHES = 8  # first batches whose inputs are described; targets are again at 16, 32 and 64
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


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A nest of mappings and sequences with every tensor changed. Other objects stay as they are."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return rebuilt(value, {k: mapped(v, change) for k, v in value.items()})
    if isinstance(value, list | tuple):
        return rebuilt(value, [mapped(v, change) for v in value])
    return value


def rebuilt(like: Any, content: Any) -> Any:
    """Content in a container of the kind of another one, as far as that can be made."""
    try:
        if isinstance(like, tuple) and hasattr(like, "_fields"):
            return type(like)(*content)
        return type(like)(content)
    except Exception:  # noqa: BLE001 - a class of the user's
        return content


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


def non_finite_rows(batch: Any, part: str) -> tuple[int, ...]:
    """The first rows of a batch that hold NaN or Inf in its ``"input"`` or ``"target"``."""
    inputs, targets = split(batch)
    for tensor in tensors(inputs if part == "input" else targets):
        if not is_finite(tensor):
            return _bad_values(_flags(tensor)).first
    return ()


class BatchReader:
    """Learns about the data from the first batches of a run, and looks at one now and then to its end.

    On an accelerator reading a value would wait for it, so what is read there is kept and taken in at :meth:`settle`,
    between epochs.

    Attributes:
        next_at: Index of the next batch to be read; infinite when nothing more is to be learned.
        trivial_from: What a constant predictor's loss may be taken from: ``"class_prior"``, ``"output_width"``,
            ``"target_spread"``, as the loss allows.
        loss_factor: What the loss is multiplied by before it is recorded, beside what it is by name.
    """

    def __init__(self, facts: Facts, *, check_data: bool | DataChecks, budget: float = 0.01) -> None:
        """Args:
        facts: Filled in.
        check_data: Say what is wrong with batches, and how.
        budget: Share of step time that all watching may take.
        """
        self._facts = facts
        self.trivial_from: tuple[str, ...] = ()
        self.loss_factor = 1.0
        self._ignored: int | None = None
        settings = check_data if isinstance(check_data, DataChecks) else DataChecks()
        self._settings = settings
        self.checks = settings.checks() if check_data else None
        self._pace = ReadingPace(READ_IN_A_ROW, THEN_EVERY, budget)
        self._taken = 0  # batches taken in; on a device that is later than read
        self._step = self._epoch = 0
        self._labels = LabelCounts()
        self._targets = TargetStatistics()
        self._inputs = InputStatistics()
        self._order = ClassOrder()
        self._has_one_validation = True
        self._validation: ValidationTargets | None = None  # of a first validation that has not been made use of
        self._later: list[tuple[int, int, Any]] = []
        self._flags: list[tuple[int, int, str, Tensor]] = []
        self.next_at: float = 0

    def read(self, batch: Any, step: int, epoch: int) -> list[Finding]:
        """Look at one training batch.

        Returns:
            What is wrong with it, or was with one before it.
        """
        pace = self._pace
        pace.begin(step)
        self._step, self._epoch = step, epoch
        first = next(tensors(batch), None)
        if pace.seen == 1:
            self._facts.batch_size = batch_size(batch)
        is_elsewhere = first is not None and first.device.type != "cpu"
        if is_elsewhere:
            self._keep(batch, step, epoch)
        else:
            self._take_in(batch, step, epoch)
        self.next_at = pace.end(step)
        enough = DEVICE_BATCHES if is_elsewhere else COUNTED_BATCHES
        if first is None or (self.checks is None and pace.seen >= enough) or len(self._flags) >= DEVICE_FLAGS:
            self.next_at = math.inf
        return [] if self.checks is None or is_elsewhere else self.checks.take()

    def look_at(self, batch: Any, step: int, epoch: int) -> list[Finding]:
        """Look for bad values in a training batch that something went wrong with. On a device it would be waited for.

        Returns:
            What is wrong with it.
        """
        first = next(tensors(batch), None)
        if self.checks is None or first is None or first.device.type != "cpu":
            return []
        inputs, targets = split(batch)
        self.checks.add_values(_arrays(inputs), _arrays(targets), step, epoch)
        return self.checks.take()

    def look_before(self, training: Any, validation: Any = None) -> list[Finding]:
        """Look at the data before training.

        Args:
            training: All rows of it, in the structure of a batch.
            validation: The same of the validation, ``None`` where it is not at hand.

        Returns:
            What is wrong with them. Rows are named by their place in the data.
        """
        checks = self.checks
        if checks is None:
            return []
        inputs, targets = split(training)
        self._settings.look_through(checks, _arrays(inputs), _arrays(targets))
        if validation is not None:
            inputs, targets = split(validation)
            checks.add_rows(_arrays(inputs), validation=True)
            self._validation = ValidationTargets()
            self._validation.add(_arrays(targets))
            self._validation.is_whole = True
            checks.compare(batch_size(training), -1, 0)
        return checks.take()

    def read_validation(self, batch: Any, loader: int = 0) -> bool:
        """Take in a batch of the first validation: its rows are looked for among those of training.

        Args:
            batch: Of any structure.
            loader: Which of several loaders it came from. Their targets have no spread or shares in common.

        Returns:
            Whether there is room for more.
        """
        if self.checks is None or not self.checks.wants_validation:
            return False
        self._has_one_validation = self._has_one_validation and loader == 0
        self._validation = self._validation or ValidationTargets()
        inputs, targets = split(batch)
        self.checks.add_validation(_arrays(inputs))
        self._validation.add(_arrays(targets))
        self._validation.is_whole = self.checks.wants_validation
        return self._validation.is_whole

    def settle(self) -> list[Finding]:
        """Take in what was kept. Call where waiting for the device does no harm.

        Returns:
            As :meth:`read`.
        """
        later, self._later = self._later, []
        flags, self._flags = self._flags, []
        for step, epoch, batch in later:
            self._take_in(batch, step, epoch)
        self._settle_validation()
        if flags and self.next_at == math.inf:
            self.next_at = self._step + self._pace.every_steps
        checks = self.checks
        if checks is None:
            return []
        for step, epoch, part, bad in flags:
            if bool(bad.any()):
                checks.say_bad_values(part, _bad_values(bad), step, epoch)
        checks.compare(self._facts.train_samples, self._step, self._epoch)
        return checks.take()

    # How it is done

    def _settle_validation(self) -> None:
        """What the targets of the first validation tell, once the loss is known."""
        seen, facts = self._validation, self._facts
        if seen is None or self._step == 0 or not self._has_one_validation:
            return
        self._validation = None
        counts = seen.class_counts(facts.class_counts)
        if self._ignored is not None:
            counts.pop(self._ignored, None)
        facts.validation_class_counts = counts
        if seen.is_whole and facts.validation_samples is None:
            facts.validation_samples = seen.samples
        kind = SPREADS.get(facts.loss_name or "")
        # What multiplies the training loss may not be in that of the validation.
        if "target_spread" in self.trivial_from and kind is not None and self.loss_factor == 1.0:
            facts.validation_trivial_loss = seen.trivial_loss(kind)

    @torch.no_grad()
    def _keep(self, batch: Any, step: int, epoch: int) -> None:
        """Keep what is on a device: first batches as they are, then one flag a row. Nothing waits for the device."""
        if self._pace.seen <= DEVICE_BATCHES:
            large = sum(t.numel() * t.element_size() for t in tensors(batch)) > KEPT_BYTES
            self._later.append((step, epoch, (None, split(batch)[1]) if large else batch))
        elif self.checks is not None:
            for part, values in zip(("input", "target"), split(batch), strict=True):
                self._flags += [(step, epoch, part, _flags(t)) for t in tensors(values) if t.is_floating_point()]

    @torch.no_grad()
    def _take_in(self, batch: Any, step: int, epoch: int) -> None:
        inputs, targets = split(batch)
        x, y = _arrays(inputs), _arrays(targets)
        self._taken += 1
        if self._taken <= COUNTED_BATCHES:
            self._describe(x, y)
            self._count(targets)
        if self.checks is not None:
            shape = self._facts.output.shape if self._facts.loss_name == "cross_entropy" else None
            classes = shape[1] if shape is not None and len(shape) > 1 and self._ignored is None else None
            if isinstance(inputs, list | tuple):  # of several parts the last may be something else, as numbers of rows
                classes = None
            self.checks.add(x, y, step, epoch, classes)

    def _describe(self, inputs: list[Any], targets: list[Any]) -> None:
        """Take the values of a batch into the statistics of inputs and targets."""
        if targets:
            self._targets.add(targets[0])
            names_classes = self._facts.target.names_classes
            if self._taken <= READ_IN_A_ROW and len(inputs) == 1 and inputs[0].dtype.kind == "f":
                self._order.add(inputs[0], targets[0])
                names_classes = self._order.names_classes()
            if self._taken <= INPUT_BATCHES or self._taken & (self._taken - 1) == 0:  # medians take a while
                self._facts.target = self._targets.facts()
            self._facts.target.names_classes = names_classes
        if self._taken <= INPUT_BATCHES:
            self._inputs.add(inputs)
            self._facts.inputs = self._inputs.facts()

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
        if self._taken > READ_IN_A_ROW:
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
    known = not values.is_floating_point() or values.dtype in (torch.float16, torch.float32, torch.float64)
    return (values if known else values.float()).numpy()


def _arrays(values: Any) -> list[Any]:
    return [_array(t) for t in tensors(values) if _has_numbers(t)]


def _flags(tensor: Tensor) -> Tensor:
    """Whether each row holds a value that is not finite. Booleans, shape (rows,), on the tensor's device."""
    bad = ~torch.isfinite(tensor.detach())
    return bad.flatten(1).any(1) if bad.dim() > 1 else bad.reshape(-1)


def _bad_values(flags: Tensor) -> BadValues:
    rows = flags.nonzero().flatten().tolist()
    return BadValues(None, len(rows), tuple(rows[:EXAMPLES]))
