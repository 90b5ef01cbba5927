"""What can be learned of the data from single batches: size, classes, values that are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from failguard.core.batch_facts import InputStatistics, TargetStatistics
from failguard.core.batch_values import bad_values
from failguard.core.class_order import ClassOrder
from failguard.core.data_checks import DataChecks
from failguard.core.facts import Facts
from failguard.core.finding import Finding
from failguard.core.label_counts import LabelCounts
from failguard.core.reading_pace import ReadingPace
from failguard.core.validation_targets import ValidationTargets
from failguard.keras.loss import BINARY, LossFacts

__all__ = ["BatchReader", "arrays", "non_finite_part", "non_finite_rows"]

MAX_CLASSES = 1000  # more are a vocabulary; counts of those would fill the record
READ_AT_START = 8  # very first batches, each of them read
# Each of 16 batches that are offered is read, then every 64th at most (data may be sorted). Of 48 in all the targets
# are counted, the others are only checked.
READ_IN_A_ROW, THEN_EVERY, COUNTED_BATCHES = 16, 64, 48


def non_finite_part(batch: Any) -> str | None:
    """``"input"`` or ``"target"`` where a batch, as ``train_step`` gets it, holds NaN or Inf; else ``None``."""
    return next((part for part in ("input", "target") if _bad_rows(batch, part) is not None), None)


def non_finite_rows(batch: Any, part: str) -> tuple[int, ...]:
    """The first rows of a batch that hold NaN or Inf in its ``"input"`` or ``"target"``."""
    return _bad_rows(batch, part) or ()


class BatchReader:
    """Learns about the data from the first batches of a run, and looks at one now and then to its end.

    Attributes:
        next_at: Step from which the next batch is to be read; infinite when nothing more is to be learned.
        is_at_start: The very first batches are still to be read.
    """

    def __init__(self, facts: Facts, *, check_data: bool | DataChecks, loss: LossFacts, budget: float = 0.01) -> None:
        """Args:
        facts: Filled in.
        check_data: Say what is wrong with batches, and how.
        loss: What the targets are for.
        budget: Share of step time that all watching may take.
        """
        self._facts = facts
        settings = check_data if isinstance(check_data, DataChecks) else DataChecks()
        self.checks = settings.checks() if check_data else None
        self.loss = loss
        self._classes = LabelCounts()
        self._targets = TargetStatistics()
        self._inputs = InputStatistics()
        self._order = ClassOrder()
        self._is_weighted = self._weigh_differently = False
        self._pace = ReadingPace(READ_IN_A_ROW, THEN_EVERY, budget)
        self._step = self._epoch = 0
        self.next_at: float = 0
        self.is_at_start = True

    def read(self, batch: Any, step: int, epoch: int) -> list[Finding]:
        """Look at one training batch, as ``train_step`` gets it.

        Returns:
            What is wrong with it, or was with one before it.
        """
        pace = self._pace
        pace.begin(step)
        self._step, self._epoch = step, epoch
        seen = pace.seen
        self.is_at_start = seen < READ_AT_START
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        facts = self._facts
        if seen == 1:
            facts.batch_size = _batch_size(x)
            if facts.batch_size and facts.steps_per_epoch:
                facts.train_samples = facts.batch_size * facts.steps_per_epoch
        if weight is not None:  # a weighted loss has another floor
            self._is_weighted = True
            self._weigh_differently = self._weigh_differently or _differ(arrays(weight))
        inputs, targets = arrays(x), arrays(y)
        if seen <= READ_AT_START and inputs:
            self._inputs.add(inputs)
            facts.inputs = self._inputs.facts()
        if seen <= COUNTED_BATCHES and len(targets) == 1 and len(keras.tree.flatten(y)) == 1:
            self._describe(inputs, targets[0])
        facts.target.weigh_differently = self._weigh_differently
        if self.checks is not None:
            name = self.loss.kind if self.loss.takes_class_numbers else None
            classes = facts.output.shape[-1] if name is not None and facts.output.shape else None
            self.checks.add(inputs, targets, step, epoch, classes, class_loss=name)
        self.next_at = pace.end(step)
        if self.checks is None and seen >= COUNTED_BATCHES:
            self.next_at = math.inf
        return [] if self.checks is None else self.checks.take()

    def read_validation(self, batches: Iterable[tuple[Any, Any]] | None) -> list[Finding]:
        """Take in the batches of the first validation, and look for their rows among those of training.

        Args:
            batches: Inputs and targets of each, of any structure; ``None``: none that were not shown before.

        Returns:
            What was found.
        """
        checks = self.checks
        if checks is None:
            return []
        seen = ValidationTargets()
        for x, y in batches or ():
            if not checks.wants_validation:
                break
            checks.add_validation(arrays(x))
            seen.add(arrays(y))
        seen.is_whole = checks.wants_validation
        if batches is not None:
            self._settle_validation(seen)
        checks.compare(self._facts.train_samples, self._step, self._epoch)
        return checks.take()

    def _settle_validation(self, seen: ValidationTargets) -> None:
        """What the targets of the first validation tell."""
        facts, loss = self._facts, self.loss
        facts.validation_class_counts = seen.class_counts(facts.class_counts)
        if seen.is_whole and seen.samples:
            facts.validation_samples = seen.samples
        if loss.spread is not None and loss.kind != BINARY and not self._is_weighted:
            facts.validation_trivial_loss = seen.trivial_loss(loss.spread, loss.delta)

    def _describe(self, inputs: list[Any], target: Any) -> None:
        """Take the targets of a batch into the statistics."""
        seen, facts = self._pace.seen, self._facts
        if seen > READ_IN_A_ROW:
            self._classes.cut()
        self._count(target)
        self._targets.add(target)
        if len(inputs) == 1 and inputs[0].dtype.kind == "f":
            self._order.add(inputs[0], target)
        if seen <= READ_AT_START or seen & (seen - 1) == 0:  # medians take a while
            facts.target = self._targets.facts()
            facts.target.names_classes = self._order.names_classes()
            self._set_trivial_loss()

    def _count(self, target: Any) -> None:
        """Add the classes among targets to the facts."""
        facts = self._facts
        if target.size == 0 or facts.target_kind == "continuous":
            return
        counts = self._class_counts(target)
        if counts is None:
            if target.dtype.kind == "f":
                facts.target_kind, facts.class_counts, facts.label_order = "continuous", {}, None
                self._classes = LabelCounts()
            return
        self._classes.add({c: int(n) for c, n in enumerate(counts.tolist()) if n}, len(target) if target.ndim else 1)
        facts.target_kind = "classes"
        facts.class_counts = dict(sorted(self._classes.counts.items()))
        facts.label_order = self._classes.order()

    def _class_counts(self, target: Any) -> Any:
        """Targets by class, int64, shape (classes,); ``None`` where they are no classes, or too many."""
        if target.ndim > 1 and target.shape[-1] > 1 and self.loss.kind == "categorical_crossentropy":
            rows = target.reshape(-1, target.shape[-1])
            is_one_hot = bool(((rows == 0) | (rows == 1)).all()) and bool((rows.sum(axis=1) == 1).all())
            return rows.sum(axis=0).astype(np.int64) if is_one_hot and rows.shape[1] <= MAX_CLASSES else None
        values = target.ravel()
        if target.dtype.kind == "f":
            # Whole numbers in one column are classes, as a loader that makes floats of everything gives.
            is_one_column = values.size == len(target) if target.ndim else True
            is_class_loss = "crossentropy" in (self.loss.kind or self._facts.loss_name or "")
            if not (is_one_column and is_class_loss and bool((values == np.round(values)).all())):
                return None
        classes = values.astype(np.int64)
        classes = classes[classes >= 0]  # negative ones, such as -1, usually mean "ignore"
        if classes.size == 0 or int(classes.max()) >= MAX_CLASSES:
            return None
        return np.bincount(classes)

    def _set_trivial_loss(self) -> None:
        """Set the loss of the best constant predictor, where the loss and the targets seen allow it."""
        facts, loss = self._facts, self.loss
        value, source = None, None
        if self._is_weighted or not loss.is_plain:
            pass
        elif loss.has_class_prior and facts.class_counts and self._is_one_label_a_row():
            value, source = self._classes.prior_entropy(), "class_prior"
            if value is None and len(facts.class_counts) < 2:
                return  # what the width says stands
        elif loss.kind == "categorical_crossentropy":
            value, source = self._targets.trivial_loss("categorical"), "class_prior"
        elif loss.spread is not None:
            value, source = self._targets.trivial_loss(loss.spread, loss.delta), "target_spread"
        facts.trivial_loss, facts.trivial_loss_source = value, None if value is None else source

    def _is_one_label_a_row(self) -> bool:
        """A binary cross-entropy over several columns has a prior for each of them."""
        return self.loss.kind != BINARY or self._targets.columns == 1


def _differ(weights: list[Any]) -> bool:
    return any(w.size > 1 and bool(w.min() < w.max()) for w in weights)


def _batch_size(x: Any) -> int | None:
    shapes = [leaf.shape for leaf in keras.tree.flatten(x) if leaf is not None]
    return int(shapes[0][0]) if shapes and len(shapes[0]) else None


def arrays(values: Any) -> list[Any]:
    """Every leaf of a structure as a numpy array, those of text or unknown kind left out."""
    arrays = []
    for leaf in keras.tree.flatten(values) if isinstance(values, dict | list | tuple) else [values]:
        if leaf is None:
            continue
        try:
            array = leaf if isinstance(leaf, np.ndarray) else np.asarray(keras.ops.convert_to_numpy(leaf))
        except Exception:  # noqa: BLE001 - sparse, ragged or text: nothing to look at
            continue
        if array.dtype.kind in "fiub":
            arrays.append(array)
    return arrays


def _bad_rows(batch: Any, part: str) -> tuple[int, ...] | None:
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    found = (bad_values(array) for array in arrays(x if part == "input" else y))
    return next((bad.first for bad in found if bad is not None), None)
