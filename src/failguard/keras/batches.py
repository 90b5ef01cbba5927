"""What can be learned of the data from single batches: size, classes, values that are not finite."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from failguard.core.batch_facts import InputStatistics, TargetStatistics
from failguard.core.class_order import ClassOrder
from failguard.core.data_checks import DataChecks
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity, Where
from failguard.core.label_counts import LabelCounts
from failguard.keras.loss import BINARY, LossFacts

__all__ = ["BatchReader", "arrays", "non_finite_part"]

MAX_CLASSES = 1000  # more are a vocabulary; counts of those would fill the record
DATA_CHECKS = 3  # batches looked at for values that are not finite
READ_AT_START = 8  # very first batches, each of them read
# Targets are counted in each batch that is offered, then in every 64th (data may be sorted), 48 batches in all.
COUNTED_IN_A_ROW, THEN_EVERY, COUNTED_BATCHES = 16, 64, 48


def non_finite_part(batch: Any) -> str | None:
    """``"input"`` or ``"target"`` where a batch, as ``train_step`` gets it, holds NaN or Inf; else ``None``."""
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    for part, values in (("input", x), ("target", y)):
        if not all(_is_finite(array) for array in arrays(values)):
            return part
    return None


class BatchReader:
    """Learns about the data from the first batches of a run, and then is done.

    Attributes:
        next_at: Step from which the next batch is to be read; infinite when nothing more is to be learned.
        is_at_start: The very first batches are still to be read.
        target: The targets of the newest batch that was read, where there is one array of them.
    """

    def __init__(self, facts: Facts, *, check_data: bool | DataChecks, loss: LossFacts) -> None:
        """Args:
        facts: Filled in.
        check_data: Look for values that are not finite in the first batches.
        loss: What the targets are for.
        """
        self._facts = facts
        self._checks = DATA_CHECKS if check_data else 0
        self._settings = check_data if isinstance(check_data, DataChecks) else DataChecks()
        self._of_batches = self._settings.checks() if check_data else None
        self.loss = loss
        self._classes = LabelCounts()
        self._targets = TargetStatistics()
        self._inputs = InputStatistics()
        self._order = ClassOrder()
        self._is_weighted = False
        self._seen = 0
        self.next_at: float = 0
        self.is_at_start = True

    def read(self, batch: Any, step: int, epoch: int) -> Finding | None:
        """Look at one training batch, as ``train_step`` gets it.

        Returns:
            A warning if a value is not finite, among the first batches.
        """
        self._seen += 1
        self.is_at_start = self._seen < READ_AT_START
        if self._seen > COUNTED_IN_A_ROW:
            self._classes.cut()
        self.next_at = step + (1 if self._seen < COUNTED_IN_A_ROW else THEN_EVERY)
        if self._seen >= COUNTED_BATCHES:
            self.next_at = math.inf
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        facts = self._facts
        if self._seen == 1:
            facts.batch_size = _batch_size(x)
            if facts.batch_size and facts.steps_per_epoch:
                facts.train_samples = facts.batch_size * facts.steps_per_epoch
        if weight is not None:  # a weighted loss has another floor
            self._is_weighted = True
        inputs = arrays(x) if self._seen <= READ_AT_START else []
        if inputs:
            self._inputs.add(inputs)
            facts.inputs = self._inputs.facts()
        targets = arrays(y)
        if len(targets) == 1 and len(keras.tree.flatten(y)) == 1:
            self._count(targets[0])
            self._targets.add(targets[0])
            if len(inputs) == 1 and inputs[0].dtype.kind == "f":
                self._order.add(inputs[0], targets[0])
            if self._seen <= READ_AT_START or self._seen & (self._seen - 1) == 0:  # medians take a while
                facts.target = self._targets.facts()
                facts.target.names_classes = self._order.names_classes()
                self._set_trivial_loss()
        part = None
        if self._checks > 0:
            self._checks -= 1
            part = non_finite_part(batch)
        if part is None or "data.non_finite" in self._settings.ignore:
            return self._check(inputs, targets, step, epoch)
        bad = sum(int((~np.isfinite(a)).sum()) for a in (*inputs, *targets) if a.dtype.kind == "f")
        return Finding(
            code="data.non_finite",
            severity=Severity.ERROR if "data.non_finite" in self._settings.raises else Severity.WARNING,
            step=step,
            epoch=epoch,
            message=f"Batch {step} holds NaN or Inf in its {part}.",
            where=Where(tensor=part, batch=step),
            evidence={"non_finite_values": float(bad)},
        )

    def _check(self, inputs: list[Any], targets: list[Any], step: int, epoch: int) -> Finding | None:
        """What else is wrong with the batch, or was with one before it."""
        if self._of_batches is None:
            return None
        self._of_batches.add(inputs, targets, step, epoch)
        found = self._of_batches.next()
        return None if found is not None and found.code in self._settings.ignore else found

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


def _is_finite(array: Any) -> bool:
    if array.dtype.kind != "f":
        return True
    with np.errstate(all="ignore"):
        total = array.sum()
    return bool(np.isfinite(total)) or bool(np.isfinite(array).all())
