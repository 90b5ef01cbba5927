"""Findings about data that no detector of a run makes: where they are looked for, and by which thresholds."""

from __future__ import annotations

from dataclasses import fields

from failguard.data.thresholds import DataThresholds

__all__ = ["document", "thresholds"]

_TABLE = "in a table, by `validate_dataset` and `failguard data check`"
_SPLIT = "in training and validation data, by `check_split` and `failguard data split`"
_PROFILE = "against a profile of good data, by `failguard data check --profile`"
_BATCHES = "in batches, by `FailGuard(check_data=True)` and `DataChecks().look_at`"

_VALIDATION = (
    "among the validation rows, by `FailGuard(check_data=True)` in Lightning and Keras and by "
    "`DataChecks().look_at(..., validation=...)`"
)

_PLACES = {
    "data.non_finite": (_BATCHES, _TABLE, _PROFILE),
    "data.nulls": (_TABLE, _PROFILE),
    "data.duplicates": (_TABLE,),
    "data.outliers": (_TABLE, _PROFILE, _BATCHES),
    "data.distribution": (_TABLE, _PROFILE),
    "data.constant_feature": (_TABLE, _BATCHES),
    "data.imbalance": (_TABLE, _BATCHES),
    "data.labels": (_TABLE, _SPLIT, _BATCHES),
    "data.types": (_TABLE, _SPLIT),
    "data.identifier": (_TABLE,),
    "data.target_leakage": (_TABLE,),
    "data.leakage": (_SPLIT, _VALIDATION),
    "data.drift": (_SPLIT, _PROFILE),
    "data.time_leakage": (_SPLIT,),
    "data.schema": (_SPLIT, _PROFILE),
    "data.repeated_batch": (_BATCHES,),
}
# Of `DataThresholds`; codes that are not here have none.
_THRESHOLDS = {
    "data.nulls": ("null_share_warning", "null_share_error"),
    "data.duplicates": ("duplicate_share_warning", "duplicate_share_error"),
    "data.outliers": ("outlier_distance", "outlier_share_error"),
    "data.distribution": ("skewness", "placeholder_share"),
    "data.constant_feature": ("dominant_share",),
    "data.imbalance": ("class_share", "class_rows"),
    "data.labels": ("conflict_share",),
    "data.target_leakage": ("leak_score_warning", "leak_score_error"),
    "data.leakage": ("overlap_share",),
    "data.drift": ("drift_distance", "domain_auc"),
    "data.time_leakage": ("time_share",),
}


def document(code: str) -> str:
    """Where a finding is looked for; ``""`` for one that is not about data."""
    places = _PLACES.get(code)
    if places is None:
        return ""
    lines = "\n".join(f"- {place}" for place in places)
    more = "\n\nThe thresholds are fields of `DataThresholds`." if code in _THRESHOLDS else ""
    return f"It is looked for:\n\n{lines}{more}"


def thresholds(code: str) -> tuple[tuple[str, str], ...]:
    """Its thresholds of ``DataThresholds`` with their defaults."""
    defaults = {f.name: str(f.default) for f in fields(DataThresholds)}
    return tuple((name, defaults[name]) for name in _THRESHOLDS.get(code, ()))
