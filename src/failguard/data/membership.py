"""How two groups of rows differ in one column: effect, interval, p-value, lift."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from failguard.data.needs import need

__all__ = ["Difference", "categories", "flags", "numbers"]

Floats = NDArray[np.float64]
EXACT_CELLS = 5.0  # least expected count from which the chi-squared test holds
PERMUTATIONS = 9_999
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Difference:
    """Members of a group against the reference rows, in one column.

    Attributes:
        auc: Area under the ROC curve: the chance that a member has the larger value, ties half. Of categories: the same
            of a score learned on other rows.
        auc_low, auc_high: Its confidence interval.
        effect: Effect size: Cliff's delta, 2 AUC - 1, of numbers; the difference of rates of booleans; Cramér's V,
            corrected for bias, of categories.
        effect_low, effect_high: Its confidence interval; of categories that of 2 AUC - 1.
        p_value: Mann-Whitney, Fisher's exact, or chi-squared (by permutation where counts are small).
        members, reference: Rows with a value.
        member_value, reference_value: Median of numbers, rate of booleans, share of ``category`` of categories.
        lift: Rate among members over rate among reference rows: of booleans, of the category that differs most, and
            of numbers of being above the reference's median.
        category: The category that differs most.
    """

    auc: float
    auc_low: float
    auc_high: float
    effect: float
    effect_low: float
    effect_high: float
    p_value: float
    members: int
    reference: int
    member_value: float
    reference_value: float
    lift: float | None
    category: str | None = None


def numbers(members: Floats, reference: Floats, confidence: float) -> Difference:
    """Of numbers. The interval is DeLong's (1988) on the logit scale, which keeps it between 0 and 1."""
    test = need("scipy.stats").mannwhitneyu(members, reference, alternative="two-sided", method="asymptotic")
    auc = float(test.statistic) / (len(members) * len(reference))
    low, high = _delong(members, reference, auc, confidence)
    middle = float(np.median(reference))
    # A constant column has a p-value that is not a number.
    p = float(test.pvalue) if math.isfinite(test.pvalue) else 1.0
    above, usual = float(np.mean(members > middle)), float(np.mean(reference > middle))
    return Difference(
        auc, low, high, 2 * auc - 1, 2 * low - 1, 2 * high - 1, p, len(members), len(reference),
        float(np.median(members)), middle, above / usual if usual > 0 else None,
    )  # fmt: skip


def flags(members: Floats, reference: Floats, confidence: float) -> Difference:
    """Of booleans as 0 and 1. The interval of the difference of rates is Newcombe's (1998, method 10)."""
    a, n, b, m = float(members.sum()), len(members), float(reference.sum()), len(reference)
    p = float(need("scipy.stats").fisher_exact([[a, n - a], [b, m - b]]).pvalue)
    first, second = a / n, b / m
    low_1, high_1 = _wilson(a, n, confidence)
    low_2, high_2 = _wilson(b, m, confidence)
    difference = first - second
    low = difference - math.hypot(first - low_1, high_2 - second)
    high = difference + math.hypot(high_1 - first, second - low_2)
    return Difference(
        0.5 + difference / 2, 0.5 + low / 2, 0.5 + high / 2, difference, low, high, p, n, m, first, second,
        first / second if second > 0 else None,
    )  # fmt: skip


def categories(members: NDArray[Any], reference: NDArray[Any], confidence: float) -> Difference:
    """Of text. The AUC is that of rates learned on other rows, so that many categories do not seem to say much."""
    stats = need("scipy.stats")
    words, codes = np.unique(np.concatenate([members, reference]).astype(str), return_inverse=True)
    n, m, k = len(members), len(reference), len(words)
    table = np.array([np.bincount(codes[:n], minlength=k), np.bincount(codes[n:], minlength=k)])
    if k < 2:
        return Difference(0.5, 0.5, 0.5, 0.0, 0.0, 0.0, 1.0, n, m, 1.0, 1.0, 1.0, str(words[0]))
    chi2, p, _, expected = stats.chi2_contingency(table, correction=False)
    is_member = np.r_[np.ones(n, bool), np.zeros(m, bool)]
    draw = np.random.default_rng(0)
    if expected.min() < EXACT_CELLS:
        p = _permuted(codes, is_member, table, float(chi2), draw)
    phi2 = max(0.0, chi2 / (n + m) - (k - 1) / (n + m - 1))
    effect = math.sqrt(phi2 / max(min(k - (k - 1) ** 2 / (n + m - 1), 2.0) - 1.0, 1e-12))  # Bergsma (2013)
    fold = np.empty(n + m, int)
    fold[draw.permutation(n + m)] = np.arange(n + m) % FOLDS
    score = np.empty(n + m)
    base = n / (n + m)
    for f in range(FOLDS):
        train = fold != f
        seen = np.bincount(codes[train], minlength=k)
        score[~train] = ((np.bincount(codes[train & is_member], minlength=k) + base) / (seen + 1.0))[codes[~train]]
    ranks = stats.rankdata(score)
    auc = float((ranks[:n].sum() - n * (n + 1) / 2) / (n * m))
    low, high = _delong(score[:n], score[n:], auc, confidence)
    shares = table / np.array([[n], [m]])
    most = int(np.argmax(np.abs(shares[0] - shares[1])))
    lift = float(shares[0][most] / shares[1][most]) if shares[1][most] > 0 else None
    return Difference(
        auc, low, high, min(effect, 1.0), 2 * low - 1, 2 * high - 1, float(p), n, m,
        float(shares[0][most]), float(shares[1][most]), lift, str(words[most]),
    )  # fmt: skip


def _permuted(codes: Any, is_member: Any, table: Any, chi2: float, draw: np.random.Generator) -> float:
    """p-value of chi-squared over tables with the same margins (Patefield, 1981)."""
    tables = need("scipy.stats").random_table(table.sum(axis=1), table.sum(axis=0))
    drawn = tables.rvs(PERMUTATIONS, random_state=draw)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    at_least = int((((drawn - expected) ** 2 / expected).sum(axis=(1, 2)) >= chi2 * (1 - 1e-9)).sum())
    return (1.0 + at_least) / (1.0 + PERMUTATIONS)


def _delong(members: Floats, reference: Floats, auc: float, confidence: float) -> tuple[float, float]:
    rank = need("scipy.stats").rankdata
    n, m = len(members), len(reference)
    together = rank(np.concatenate([members, reference]))
    of_members = (together[:n] - rank(members)) / m
    of_reference = 1.0 - (together[n:] - rank(reference)) / n
    variance = (np.var(of_members, ddof=1) / n if n > 1 else 0.25) + (
        np.var(of_reference, ddof=1) / m if m > 1 else 0.25
    )
    z = _z(confidence)
    # An AUC of 0 or 1 has no variance of its own: half a pair is counted on the other side.
    at = min(max(auc, 0.5 / (n * m)), 1.0 - 0.5 / (n * m))
    least = at * (1 - at) / min(n, m)
    half = z * math.sqrt(max(float(variance), 1e-3 * least if 0 < auc < 1 else least)) / (at * (1 - at))
    logit = math.log(at / (1 - at))
    return 1.0 / (1.0 + math.exp(min(half - logit, 700))), 1.0 / (1.0 + math.exp(max(-half - logit, -700)))


def _wilson(count: float, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval (1927) of a rate."""
    z, p = _z(confidence), count / n
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def _z(confidence: float) -> float:
    return float(need("scipy.stats").norm.ppf(0.5 + confidence / 2))
