"""What can be learned of the data from single batches: size, classes, values that are not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity, Where

__all__ = ["BatchReader", "non_finite_part"]

MAX_CLASSES = 1000  # more are a vocabulary; counts of those would fill the record
DATA_CHECKS = 3  # batches looked at for values that are not finite
READ_AT_START = 8  # very first batches, each of them read
# Targets are counted in each batch that is offered, then in every 64th (data may be sorted), 48 batches in all.
COUNTED_IN_A_ROW, THEN_EVERY, COUNTED_BATCHES = 16, 64, 48


def non_finite_part(batch: Any) -> str | None:
    """``"input"`` or ``"target"`` where a batch, as ``train_step`` gets it, holds NaN or Inf; else ``None``."""
    x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
    for part, values in (("input", x), ("target", y)):
        if not all(_is_finite(array) for array in _arrays(values)):
            return part
    return None


class BatchReader:
    """Learns about the data from the first batches of a run, and then is done.

    Attributes:
        next_at: Step from which the next batch is to be read; infinite when nothing more is to be learned.
        is_at_start: The very first batches are still to be read.
    """

    def __init__(self, facts: Facts, *, check_data: bool, trivial_from: tuple[str, ...]) -> None:
        """Args:
        facts: Filled in.
        check_data: Look for values that are not finite in the first batches.
        trivial_from: What a constant predictor's loss may be taken from: ``"class_prior"``, ``"output_width"``.
        """
        self._facts = facts
        self._checks = DATA_CHECKS if check_data else 0
        self._trivial_from = trivial_from
        self._counts: Any = None
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
        self.next_at = step + (1 if self._seen < COUNTED_IN_A_ROW else THEN_EVERY)
        if self._seen >= COUNTED_BATCHES:
            self.next_at = math.inf
        x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
        if self._seen == 1:
            facts = self._facts
            facts.batch_size = _batch_size(x)
            if facts.batch_size and facts.steps_per_epoch:
                facts.train_samples = facts.batch_size * facts.steps_per_epoch
        if weight is not None and self._trivial_from:  # a weighted loss has another floor
            self._trivial_from = ()
            self._facts.trivial_loss = self._facts.trivial_loss_source = None
        targets = _arrays(y)
        if len(targets) == 1:
            self._count(targets[0])
        if self._checks <= 0:
            return None
        self._checks -= 1
        part = non_finite_part(batch)
        if part is None:
            return None
        bad = sum(int((~np.isfinite(a)).sum()) for a in _arrays((x, y)) if a.dtype.kind == "f")
        return Finding(
            code="data.non_finite",
            severity=Severity.WARNING,
            step=step,
            epoch=epoch,
            message=f"Batch {step} holds NaN or Inf in its {part}.",
            where=Where(tensor=part, batch=step),
            evidence={"non_finite_values": float(bad)},
        )

    def _count(self, target: Any) -> None:
        """Add the classes among targets to the facts."""
        facts = self._facts
        if target.size == 0 or target.dtype.kind not in "fiub" or facts.target_kind == "continuous":
            return
        if target.ndim > 1 and target.shape[-1] > 1 and facts.loss_name == "categorical_crossentropy":
            counts = target.reshape(-1, target.shape[-1]).sum(axis=0).round().astype(np.int64)  # one-hot
        else:
            values = target.ravel()
            if target.dtype.kind == "f":
                # Whole numbers from 0 in one column are classes, as a loader that makes floats of everything gives.
                is_one_column = values.size == len(target)
                is_counted = "crossentropy" in (facts.loss_name or "") and bool((values == np.round(values)).all())
                if not (is_one_column and is_counted):
                    facts.target_kind, facts.class_counts, self._counts = "continuous", {}, None
                    return
            classes = values.astype(np.int64)
            classes = classes[classes >= 0]  # negative ones, such as -1, usually mean "ignore"
            if classes.size == 0 or int(classes.max()) >= MAX_CLASSES:
                return
            counts = np.bincount(classes)
        if self._counts is not None:
            width = max(len(counts), len(self._counts))
            counts = np.pad(counts, (0, width - len(counts))) + np.pad(self._counts, (0, width - len(self._counts)))
        self._counts = counts
        facts.target_kind = "classes"
        facts.class_counts = {c: int(n) for c, n in enumerate(counts.tolist()) if n}
        if "class_prior" in self._trivial_from and len(facts.class_counts) > 1:
            facts.trivial_loss = class_prior_entropy(facts.class_counts)
            facts.trivial_loss_source = "class_prior"


def class_prior_entropy(class_counts: Mapping[int, int]) -> float:
    """Cross-entropy of always predicting the class frequencies, in nats: -sum(p ln p)."""
    total = sum(class_counts.values())
    return -sum(n / total * math.log(n / total) for n in class_counts.values() if n)


def _batch_size(x: Any) -> int | None:
    shapes = [leaf.shape for leaf in keras.tree.flatten(x) if leaf is not None]
    return int(shapes[0][0]) if shapes and len(shapes[0]) else None


def _arrays(values: Any) -> list[Any]:
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
