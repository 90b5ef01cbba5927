"""What the first batches tell of inputs and targets, from plain arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from failguard.core.facts import InputFacts, TargetFacts
from failguard.core.moments import Moments

__all__ = ["InputStatistics", "TargetStatistics"]

MOST_COLUMNS = 65_536
MOST_KEPT = 65_536  # targets kept for medians
LARGEST = 1e150  # whose square is a number
MOST_ELEMENTS = 262_144  # of the inputs of a batch that are looked at
# A smaller share of the variance within batches means that single batches do not stand for the data.
MIXED = 0.6
LEAST_BATCHES = 4  # for a statement on that
LEAST_SAMPLES = 64  # targets from which a spread may be told
LIGHT_TAILS = 0.6  # mean absolute over standard deviation; 0.8 for a normal distribution, 0.69 for an exponential one


class TargetStatistics:
    """Targets, batch by batch. Without a statement once one of them is no finite number."""

    def __init__(self) -> None:
        self._columns = Moments()
        self._kept: list[Any] = []
        self._kept_elements = 0
        self._batches = self._samples = 0
        self._below_zero = self._above_one = self._elements = 0
        self._is_whole = self._is_one_hot = True
        self._sums_to_one = True
        self._dtype: str | None = None
        self._failed = False

    def add(self, targets: Any) -> None:
        """Take in the targets of one batch.

        Args:
            targets: Numbers, shape (samples, ...).
        """
        import numpy as np

        if self._failed or targets.size == 0:
            return
        # Positions of sequences and images share their columns, as they share the weights of what predicts them.
        rows = targets.reshape(-1, targets.shape[-1] if targets.ndim > 1 else 1)
        same_width = self._columns.count == 0 or rows.shape[1] == len(self._columns.mean)
        if rows.shape[1] > MOST_COLUMNS or not same_width or not _is_moderate(rows):
            self._failed = True
            return
        self._dtype = str(targets.dtype)
        self._columns.add(rows)
        self._batches += 1
        self._samples += len(targets) if targets.ndim else 1
        self._elements += rows.size
        self._below_zero += int((rows < 0).sum())
        self._above_one += int((rows > 1).sum())
        if self._is_whole:
            self._is_whole = targets.dtype.kind in "iub" or bool((rows == np.round(rows)).all())
        if self._sums_to_one:
            sums = rows.sum(axis=1, dtype=np.float64)
            wide = rows.shape[1] > 1 and bool((rows >= 0).all())
            self._sums_to_one = wide and bool((np.abs(sums - 1.0) < 1e-3).all())
        self._is_one_hot = self._is_one_hot and self._sums_to_one and bool(((rows == 0) | (rows == 1)).all())
        if self._kept_elements < MOST_KEPT:
            self._kept.append(np.array(rows[: max(1, (MOST_KEPT - self._kept_elements) // rows.shape[1])], np.float64))
            self._kept_elements += self._kept[-1].size

    @property
    def is_known(self) -> bool:
        """Whether there is something to say."""
        return not self._failed and self._columns.count > 0

    @property
    def columns(self) -> int:
        """Length of the last dimension, 1 for plain numbers; 0 where nothing is known."""
        return len(self._columns.mean) if self.is_known else 0

    @property
    def is_mixed(self) -> bool:
        """Whether the batches seen look as if each were drawn from all of the data."""
        return self._batches < LEAST_BATCHES or self._columns.within >= MIXED * (
            1.0 - self._batches / self._columns.count
        )

    @property
    def is_distribution(self) -> bool:
        """Whether each row of the last dimension is a distribution over classes."""
        return self._sums_to_one

    def facts(self) -> TargetFacts:
        """The facts so far."""
        import numpy as np

        if not self.is_known:
            return TargetFacts()
        columns = self._columns
        mean = float(np.mean(columns.mean))
        variance = float(np.mean(columns.variance) + np.var(columns.mean))
        kept = np.concatenate(self._kept)
        return TargetFacts(
            dtype=self._dtype,
            minimum=float(np.min(columns.low)),
            maximum=float(np.max(columns.high)),
            mean=mean,
            standard_deviation=math.sqrt(max(variance, 0.0)),
            mean_absolute_deviation=float(np.mean(np.abs(kept - np.median(kept)))),
            below_zero=self._below_zero / self._elements,
            above_one=self._above_one / self._elements,
            is_whole=self._is_whole,
            is_one_hot=self._is_one_hot,
            elements_per_sample=self._elements // self._samples if self._samples else None,
            samples=self._samples,
        )

    def _has_heavy_tails(self) -> bool:
        facts = self.facts()
        return (facts.mean_absolute_deviation or 0.0) < LIGHT_TAILS * (facts.standard_deviation or 0.0)

    def trivial_loss(self, kind: str, delta: float = 1.0, *, is_all: bool = False) -> float | None:
        """Least mean loss that one constant for each column (of the last dimension) can have.

        Args:
            kind: ``"squared"``: the mean over columns of the variance. ``"absolute"``: of the mean distance from the
                median. ``"huber"`` and ``"log_cosh"``: found by bisection. ``"binary"``: the cross-entropy of the
                column means, -mean(m ln m + (1 - m) ln(1 - m)). ``"categorical"``: of the mean distribution.
            delta: Of ``"huber"``.
            is_all: These are all the targets there are, in whatever order.

        Returns:
            ``None`` where it is not known: for targets that come sorted, for fewer than 64 samples, and for squares of
            targets with heavy tails, of which most batches have a far lower loss.
        """
        import numpy as np

        if not self.is_known or not (is_all or self.is_mixed) or self._samples < LEAST_SAMPLES:
            return None
        if kind == "squared" and self._has_heavy_tails():
            return None
        mean = self._columns.mean
        if kind == "squared":
            return float(np.mean(self._columns.variance))
        if kind in ("binary", "categorical"):
            if float(np.min(self._columns.low)) < 0 or float(np.max(self._columns.high)) > 1:
                return None
            if kind == "categorical":
                return None if not self.is_distribution else -float(np.sum(_x_log_x(mean))) / float(np.sum(mean))
            return -float(np.mean(_x_log_x(mean) + _x_log_x(1.0 - mean)))
        kept = np.concatenate(self._kept)
        if kind == "absolute":
            return float(np.mean(np.abs(kept - np.median(kept, axis=0))))
        slope, loss = _LOSSES[kind]
        low, high = kept.min(axis=0), kept.max(axis=0)
        for _ in range(40):  # the slope grows with the constant: halve the interval around its zero
            middle = 0.5 * (low + high)
            is_above = slope(middle - kept, delta).mean(axis=0) > 0
            low, high = np.where(is_above, low, middle), np.where(is_above, middle, high)
        return float(np.mean(loss(0.5 * (low + high) - kept, delta)))


class InputStatistics:
    """Inputs, batch by batch; of large ones an even sample. Says nothing of values once one is not finite.

    Integers are left out, but for images of 8 bits: arrays with three dimensions or more.
    """

    def __init__(self) -> None:
        self._all = Moments()
        self._features: Moments | None = Moments()
        self._samples = 0
        self._dtype: str | None = None
        self._failed = False

    def add(self, inputs: Sequence[Any]) -> None:
        """Take in the inputs of one batch.

        Args:
            inputs: Arrays, the samples first.
        """
        import numpy as np

        if self._dtype is None and inputs:
            self._dtype = str(inputs[0].dtype)
        arrays = [a for a in inputs if (a.dtype.kind == "f" or (a.dtype == np.uint8 and a.ndim > 2)) and a.size]
        if self._failed or not arrays:
            return
        for array in arrays:
            sample = array.reshape(-1)[:: 1 + array.size // MOST_ELEMENTS]
            if not _is_moderate(sample):
                self._failed = True
                return
            self._all.add(sample[:, None])
        self._samples += len(arrays[0]) if arrays[0].ndim else 1
        features = self._features
        table = arrays[0]
        is_table = len(arrays) == 1 and table.ndim == 2 and table.shape[1] <= MOST_COLUMNS
        if features is None or not is_table or (features.count and len(features.mean) != table.shape[1]):
            self._features = None
            return
        features.add(table[: max(1, MOST_ELEMENTS // table.shape[1])])

    def facts(self) -> InputFacts:
        """The facts so far."""
        import numpy as np

        if self._failed or self._all.count == 0:
            return InputFacts(dtype=self._dtype)
        facts = InputFacts(
            minimum=float(self._all.low[0]),
            maximum=float(self._all.high[0]),
            mean=float(self._all.mean[0]),
            standard_deviation=math.sqrt(float(self._all.variance[0])),
            samples=self._samples,
            dtype=self._dtype,
        )
        features = self._features
        if features is not None and features.count:
            varies = features.high > features.low
            deviations = np.sqrt(features.variance[varies])
            facts.features = len(features.mean)
            facts.constant_features = int((~varies).sum())
            facts.greatest_feature_mean = float(features.mean[int(np.argmax(np.abs(features.mean)))])
            if deviations.size:
                facts.least_feature_deviation = float(deviations.min())
                facts.greatest_feature_deviation = float(deviations.max())
        return facts


def _is_moderate(values: Any) -> bool:
    """Finite, and so are the squares. Integers of eight bits have no magnitude of -128, so both ends are looked at."""
    return float(values.max()) < LARGEST and float(values.min()) > -LARGEST  # false for NaN


def _x_log_x(x: Any) -> Any:
    import numpy as np

    return x * np.log(np.maximum(x, 1e-300))


def _huber_slope(error: Any, delta: float) -> Any:
    import numpy as np

    return np.clip(error, -delta, delta)


def _huber(error: Any, delta: float) -> Any:
    import numpy as np

    size = np.abs(error)
    return np.where(size <= delta, 0.5 * size * size, delta * (size - 0.5 * delta))


def _log_cosh_slope(error: Any, delta: float) -> Any:
    import numpy as np

    return np.tanh(error)


def _log_cosh(error: Any, delta: float) -> Any:
    import numpy as np

    size = np.abs(error)
    return size + np.log1p(np.exp(-2.0 * size)) - math.log(2.0)


_LOSSES = {"huber": (_huber_slope, _huber), "log_cosh": (_log_cosh_slope, _log_cosh)}
