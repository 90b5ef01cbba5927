"""The thresholds of the dataset checks, for all columns and for single ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from failguard.errors import ConfigurationError

__all__ = ["DataThresholds", "PerColumn"]


@dataclass(frozen=True, slots=True)
class DataThresholds:
    """When a check of a dataset says something. Shares are from 0 to 1; ``_error`` limits fail the dataset.

    The defaults are ours: the clean tables that come with scikit-learn pass them, and the corruptions of
    ``benchmarks/data_checks.py`` are found. ``math.inf`` turns a limit off.

    Attributes:
        null_share_warning, null_share_error: Share of missing values in a column.
        duplicate_share_warning, duplicate_share_error: Share of rows that repeat an earlier row.
        outlier_distance: How far beyond the nearer quartile a value is far out, in interquartile ranges. Tukey
            (*Exploratory Data Analysis*, 1977) calls 3 far out, which real tables with tails exceed in every other
            column. Columns without negative values must exceed it on a logarithmic scale too, at half the distance.
        outlier_share_error: Share of values of a column that far out.
        skewness: Absolute skewness, the third standardized moment, above which a distribution is called extreme.
        placeholder_share: Share of one value apart from all others (-999, say) from which it is called a placeholder.
        dominant_share: Share of the most frequent value above which a column is nearly constant.
        feature_magnitude: ``max(|mean|, deviation)`` of a feature above which it is called unscaled; as ``data.scale``
            in training.
        class_share: Share of the rarest class, times the number of classes, below which it is called rare.
        class_rows: Rows of a class below which it is called too small to learn from.
        conflict_share: Share of rows whose features occur with another label too.
        leak_score_warning, leak_score_error: What a small decision tree on one feature alone may predict of the label,
            on rows it was not fitted to: balanced accuracy for classes, explained variance for numbers.
        overlap_share: Share of validation rows that are training rows too.
        drift_distance: Distance between the distributions of training and validation: Kolmogorov-Smirnov for numbers,
            total variation for categories. It has to be significant as well.
        domain_auc: Area under the ROC curve of a classifier that tells training from validation rows.
        time_share: Share of training rows that are later than the earliest validation row.
    """

    null_share_warning: float = 0.05
    null_share_error: float = 0.5
    duplicate_share_warning: float = 0.01
    duplicate_share_error: float = 0.2
    outlier_distance: float = 10.0
    outlier_share_error: float = 0.01
    skewness: float = 20.0
    placeholder_share: float = 0.005
    dominant_share: float = 0.99
    feature_magnitude: float = 100.0
    class_share: float = 0.1
    class_rows: float = 5
    conflict_share: float = 0.01
    leak_score_warning: float = 0.99
    leak_score_error: float = 0.999
    overlap_share: float = 0.01
    drift_distance: float = 0.15
    domain_auc: float = 0.65
    time_share: float = 0.01

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < 0:
                raise ConfigurationError(f"{f.name}={value!r} cannot be used: it takes a number from 0, or math.inf.")


class PerColumn:
    """The thresholds of every column.

    Args:
        general: For columns without their own; a :class:`DataThresholds`, a mapping of some of its fields, or ``None``.
        columns: By name of the column: the same.

    Raises:
        ConfigurationError: A field does not exist or its value cannot be used.
    """

    def __init__(
        self,
        general: DataThresholds | Mapping[str, float] | None = None,
        columns: Mapping[str, DataThresholds | Mapping[str, float]] | None = None,
    ) -> None:
        self.general = _thresholds(general, DataThresholds())
        self._columns = {str(name): _thresholds(given, self.general) for name, given in (columns or {}).items()}

    def of(self, column: str) -> DataThresholds:
        """The thresholds of a column."""
        return self._columns.get(column, self.general)

    def check_names(self, names: list[str]) -> None:
        """Make sure that thresholds are for columns that exist.

        Raises:
            ConfigurationError: There is no such column.
        """
        for name in self._columns:
            if name not in names:
                near = get_close_matches(name, names, n=3)
                remedy = (
                    f"Did you mean {' or '.join(map(repr, near))}?" if near else f"There are: {', '.join(names[:20])}."
                )
                raise ConfigurationError(f"column_thresholds names {name!r}, which is no column. {remedy}")


def _thresholds(given: Any, base: DataThresholds) -> DataThresholds:
    if given is None:
        return base
    if isinstance(given, DataThresholds):
        return given
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{given!r} cannot be used as thresholds: give DataThresholds(...) or a mapping.")
    known = [f.name for f in fields(DataThresholds)]
    for name in given:
        if name not in known:
            near = get_close_matches(str(name), known, n=3) or known
            raise ConfigurationError(f"There is no threshold {name!r}. Did you mean {' or '.join(near[:3])}?")
    return replace(base, **given)
