"""Classes among the targets seen so far: how many of each, and how well mixed they come."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import lru_cache

from failguard.core.facts import LabelOrder

__all__ = ["LabelCounts", "class_prior_entropy", "expected_entropy", "prior_error"]

GROUP = 64  # samples whose mix of classes is looked at
MOST_GROUPS = 128
# Groups below this share of the entropy of shuffled data were sorted, or come from a part of the data at a time: what
# was seen then says nothing of the rest.
SORTED = 0.6
MOST_TERMS = 200_000  # of the exact expectation; beyond, its expansion is as good


class LabelCounts:
    """Counts classes, batch by batch.

    Attributes:
        counts: Targets seen so far by class.
    """

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self._group: dict[int, int] = {}
        self._group_samples = 0
        self._groups: list[tuple[int, float]] = []  # of each: samples and entropy

    def add(self, counts: Mapping[int, int], samples: int) -> None:
        """Take in one batch.

        Args:
            counts: Targets of the batch by class.
            samples: Samples in it; fewer than targets where a sample has several.
        """
        for c, n in counts.items():
            if n:
                self.counts[c] = self.counts.get(c, 0) + n
                self._group[c] = self._group.get(c, 0) + n
        self._group_samples += samples
        if self._group_samples >= GROUP:
            if self._group and len(self._groups) < MOST_GROUPS:
                self._groups.append((self._group_samples, class_prior_entropy(self._group)))
            self.cut()

    def cut(self) -> None:
        """The next batch does not follow the last one: what was seen of a group is not completed with it."""
        self._group, self._group_samples = {}, 0

    def order(self) -> LabelOrder | None:
        """How well mixed the classes of consecutive samples are; ``None`` before there is a group or a second class."""
        if not self._groups or len(self.counts) < 2:
            return None
        expected = {n: expected_entropy(self.counts.values(), n) for n in {samples for samples, _ in self._groups}}
        groups = len(self._groups)
        return LabelOrder(
            groups=groups,
            entropy=sum(entropy for _, entropy in self._groups) / groups,
            expected_entropy=sum(expected[n] for n, _ in self._groups) / groups,
        )

    def prior_entropy(self) -> float | None:
        """Cross-entropy of always predicting the class frequencies, in nats.

        Returns:
            ``None`` where a single class was seen, or where the data come sorted, so that these are not all of them.
        """
        if len(self.counts) < 2:
            return None
        order = self.order()
        if order is not None and order.entropy < SORTED * order.expected_entropy:
            return None
        return class_prior_entropy(self.counts)


def class_prior_entropy(class_counts: Mapping[int, int]) -> float:
    """Cross-entropy of always predicting the class frequencies, in nats: -sum(p ln p)."""
    total = sum(class_counts.values())
    return -sum(n / total * math.log(n / total) for n in class_counts.values() if n)


def prior_error(class_counts: Mapping[int, int], samples: int) -> float:
    """Standard error of the cross-entropy of always predicting the class frequencies, on so many samples, in nats.

    Args:
        class_counts: How often each class was seen.
        samples: Independent samples that it is measured on.
    """
    counts = [n for n in class_counts.values() if n > 0]
    surprises = [(n / sum(counts), -math.log(n / sum(counts))) for n in counts]
    mean = sum(p * s for p, s in surprises)
    return math.sqrt(max(sum(p * s * s for p, s in surprises) - mean * mean, 0.0) / max(samples, 1))


def expected_entropy(class_counts: Iterable[int], samples: int) -> float:
    """Mean entropy of the classes among ``samples`` independent draws, in nats.

    E[H] = ln n - sum_c E[k_c ln k_c] / n with k_c binomial. For very many classes and samples its expansion
    H - (classes - 1) / (2 n) (Miller, 1955).

    Args:
        class_counts: How frequent each class is; counts of any scale.
        samples: Draws, n.
    """
    import numpy as np

    counts = np.asarray([c for c in class_counts if c > 0], dtype=np.float64)
    if counts.size < 2 or samples < 2:
        return 0.0
    p = counts / counts.sum()
    unique, repeats = np.unique(p, return_counts=True)
    if unique.size * samples > MOST_TERMS:
        entropy = float(-(p * np.log(p)).sum())
        return min(max(entropy - (counts.size - 1) / (2.0 * samples), 0.0), math.log(samples))
    k = np.arange(samples + 1, dtype=np.float64)
    log_choose = np.asarray(_log_choose(samples))
    log_pmf = log_choose + k * np.log(unique)[:, None] + (samples - k) * np.log1p(-unique)[:, None]
    k_log_k = k * np.log(np.maximum(k, 1.0))
    expected = np.exp(log_pmf) @ k_log_k
    return max(math.log(samples) - float(repeats @ expected) / samples, 0.0)


@lru_cache(maxsize=8)
def _log_choose(samples: int) -> tuple[float, ...]:
    """Logarithms of the binomial coefficients of so many draws. Asked for the same few sizes batch after batch."""
    log_factorials = [math.lgamma(i + 1.0) for i in range(samples + 1)]
    return tuple(log_factorials[-1] - a - b for a, b in zip(log_factorials, reversed(log_factorials), strict=True))
