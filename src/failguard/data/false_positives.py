"""``analyze_false_positives``: what the rows that a model gets wrong have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from failguard.data.column import Column
from failguard.data.membership import Difference, categories, flags, numbers
from failguard.data.tables import read_table
from failguard.errors import ConfigurationError, InputError
from failguard.report.plain import plain
from failguard.report.summary import percent

__all__ = ["FalsePositiveAnalysis", "FalsePositiveRow", "analyze_false_positives"]

LEAST_GROUP = 2
MOST_CATEGORIES = 100

Members = Literal["false_positives", "false_negatives"]


@dataclass(frozen=True, slots=True)
class FalsePositiveRow(Difference):
    """One column of the metadata; see :class:`~failguard.data.membership.Difference`.

    Attributes:
        column: Its name.
        kind: ``"number"``, ``"boolean"`` or ``"text"``.
        p_adjusted: The p-value corrected for the number of columns.
        significant: Whether it is at most ``alpha``.
        sentence: The difference in words.
    """

    column: str = ""
    kind: str = ""
    p_adjusted: float = 1.0
    significant: bool = False
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class FalsePositiveAnalysis:
    """The result of :func:`failguard.analyze_false_positives`.

    Attributes:
        group, reference: What was compared with what, in words.
        members, reference_rows: Rows in each.
        rows: One for each column, best first: significant ones by how far their AUC is from one half, then the others
            by p-value.
        skipped: Columns that were left out, and why.
        alpha, confidence, correction: As given.
    """

    group: str
    reference: str
    members: int
    reference_rows: int
    rows: Sequence[FalsePositiveRow]
    skipped: dict[str, str]
    alpha: float
    confidence: float
    correction: str

    @property
    def significant(self) -> list[FalsePositiveRow]:
        """The columns that differ beyond chance."""
        return [r for r in self.rows if r.significant]

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values, for JSON."""
        found: dict[str, Any] = plain(asdict(self))
        return found

    def to_markdown(self) -> str:
        """The result as Markdown."""
        from failguard.data.false_positive_pages import to_markdown

        return to_markdown(self)

    def to_html(self) -> str:
        """The result as one self-contained page with a plot."""
        from failguard.data.false_positive_pages import to_html

        return to_html(self)

    def _repr_html_(self) -> str:
        from failguard.data.false_positive_pages import to_fragment

        return to_fragment(self)

    def log_to_mlflow(self, run_id: str | None = None, *, tracking_uri: str | None = None) -> str:
        """Write the result to an MLflow run: three artifacts, and the AUC of each significant column.

        Args:
            run_id: The run; ``None``: the active one.
            tracking_uri: The store; ``None``: the one MLflow itself would use.

        Returns:
            The run's id.

        Raises:
            FailGuardError: There is no such run, or the store cannot be used.
        """
        from failguard.sinks.mlflow_artifacts import log_to_run

        name = self.group.replace(" ", "_")
        texts = {f"failguard/{name}.md": self.to_markdown(), f"failguard/{name}.html": self.to_html()}
        metrics = {f"failguard/{name}/{r.column}/auc": r.auc for r in self.significant[:100]}
        return log_to_run(texts, {f"failguard/{name}.json": self.to_dict()}, metrics, run_id, tracking_uri)


def analyze_false_positives(
    predictions: Any,
    ground_truth: Any,
    user_data: Any,
    *,
    members: Members | Any = "false_positives",
    threshold: float = 0.5,
    columns: Sequence[str] | None = None,
    correction: Literal["benjamini-hochberg", "holm"] = "benjamini-hochberg",
    alpha: float = 0.05,
    confidence: float = 0.95,
) -> FalsePositiveAnalysis:
    """Compare false positives with true negatives in every column of the metadata.

    A false positive may be a true positive of another problem. The AUC, the effect size and their intervals say how
    far the groups are apart; p-values are corrected for the number of columns, so that of columns that say nothing
    at most a share ``alpha`` of analyses reports any.

    Args:
        predictions: 0 and 1, booleans, or scores, which ``threshold`` makes 0 and 1; shape (rows,) or (rows, 1).
        ground_truth: 0 and 1, or booleans; the same shape.
        user_data: The metadata, a row for each prediction in the same order: any table that
            :func:`failguard.validate_dataset` takes. Text, numbers and booleans are used; 0 and 1 count as booleans.
        members: ``"false_positives"`` (against true negatives), ``"false_negatives"`` (against true positives), or a
            boolean array, shape (rows,): any slice, against all other rows.
        threshold: Scores from it on are positive.
        columns: Columns to look at; ``None``: all.
        correction: ``"benjamini-hochberg"`` holds the false discovery rate, ``"holm"`` the chance of any.
        alpha: Level of ``significant``.
        confidence: Of the intervals, which are not corrected.

    Returns:
        The columns, ranked.

    Raises:
        InputError: Shapes do not fit, values are none of 0 and 1, or a group has fewer than two rows.
        ConfigurationError: A keyword cannot be used.
        MissingExtraError: A library of ``failguard-ml[data]`` is missing.
    """
    if correction not in ("benjamini-hochberg", "holm"):
        raise ConfigurationError(f"correction={correction!r} cannot be used: 'benjamini-hochberg' or 'holm'.")
    for name, value in (("alpha", alpha), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ConfigurationError(f"{name}={value!r} cannot be used: it takes a number between 0 and 1.")
    truth = _binary(ground_truth, "ground_truth", None)
    predicted = _binary(predictions, "predictions", threshold)
    if len(truth) != len(predicted):
        raise InputError(f"There are {len(predicted):,} predictions, but {len(truth):,} values of ground_truth.")
    group, reference, inside, outside = _groups(predicted, truth, members)
    table = read_table(user_data, "user_data")
    missing = [c for c in columns or () if c not in table.names]
    if missing:
        raise InputError(f"user_data has no column {missing[0]!r}. There are: {', '.join(table.names[:20])}.")
    chosen = [n for n in table.names if columns is None or n in columns]
    parts = {n: [] for n in chosen}  # type: dict[str, list[Column]]
    for chunk in table.chunks():
        for column in chunk:
            if column.name in parts:
                parts[column.name].append(column)
    rows = sum(len(c) for c in next(iter(parts.values())))
    if rows != len(truth):
        raise InputError(f"user_data has {rows:,} rows, but there are {len(truth):,} predictions.")
    for what, mask in ((group, inside), (reference, outside)):
        if mask.sum() < LEAST_GROUP:
            raise InputError(f"There are {int(mask.sum())} {what}: too few to compare. Both groups need two rows.")
    found: list[tuple[str, str, Difference]] = []
    skipped: dict[str, str] = {}
    for name, pieces in parts.items():
        result = _compare(pieces, inside, outside, confidence)
        if isinstance(result, str):
            skipped[name] = result
        else:
            found.append((name, *result))
    adjusted = _adjusted([d.p_value for _, _, d in found], correction)
    ranked = []
    for (name, kind, d), p in zip(found, adjusted, strict=True):
        values = {f: getattr(d, f) for f in Difference.__dataclass_fields__}
        sentence = _sentence(group, reference, name, kind, d)
        ranked.append(
            FalsePositiveRow(**values, column=name, kind=kind, p_adjusted=p, significant=p <= alpha, sentence=sentence)
        )
    ranked.sort(key=lambda r: (not r.significant, -abs(r.auc - 0.5) if r.significant else r.p_value))
    sizes = int(inside.sum()), int(outside.sum())
    return FalsePositiveAnalysis(group, reference, *sizes, tuple(ranked), skipped, alpha, confidence, correction)


def _binary(values: Any, name: str, threshold: float | None) -> NDArray[np.bool_]:
    """0 and 1 as booleans; scores by a threshold where one is given."""
    if hasattr(values, "detach"):  # a torch tensor
        values = values.detach().cpu()
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        hint = " Of class probabilities give the column of the positive class." if array.ndim == 2 else ""
        raise InputError(f"{name} has the shape {array.shape}, but one value a row is needed.{hint}")
    try:
        numeric = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} holds {array.dtype} values. Give 0 and 1, or booleans.") from error
    if not np.isfinite(numeric).all():
        raise InputError(f"{name} holds {int((~np.isfinite(numeric)).sum()):,} missing or infinite values.")
    if ((numeric == 0) | (numeric == 1)).all():
        return np.asarray(numeric == 1)
    if threshold is None:
        other = numeric[(numeric != 0) & (numeric != 1)][0]
        raise InputError(f"{name} holds {other:g}, but only 0 and 1 are known. Give ground_truth == your_class.")
    return np.asarray(numeric >= threshold)


def _groups(predicted: Any, truth: Any, members: Any) -> tuple[str, str, NDArray[np.bool_], NDArray[np.bool_]]:
    if isinstance(members, str):
        if members == "false_positives":
            return "false positives", "true negatives", predicted & ~truth, ~predicted & ~truth
        if members == "false_negatives":
            return "false negatives", "true positives", ~predicted & truth, predicted & truth
        raise ConfigurationError(
            f"members={members!r} cannot be used: 'false_positives', 'false_negatives' or a boolean array."
        )
    mask = np.asarray(members)
    if mask.dtype != bool or mask.shape != truth.shape:
        raise InputError(f"members is {mask.dtype} of shape {mask.shape}, but must be bool of shape {truth.shape}.")
    return "members", "other rows", mask, ~mask


def _compare(pieces: list[Column], inside: Any, outside: Any, confidence: float) -> tuple[str, Difference] | str:
    """One column; or why it is left out."""
    filled = [p for p in pieces if not p.missing.all()]
    kinds = {p.kind for p in filled}
    if not kinds:
        return "no value"
    kind = kinds.pop()
    if kinds or kind in ("object", "time"):
        return "mixed types" if kinds else f"{kind}s; give numbers, booleans or text"
    missing = np.concatenate([p.missing for p in pieces])
    blank: Any = "" if kind == "text" else np.nan
    values = np.concatenate([np.full(len(p), blank, object) if p.kind != kind else p.values for p in pieces])
    if kind != "text":
        values = values.astype(np.float64)
        missing = missing | ~np.isfinite(values)
    a, b = values[inside & ~missing], values[outside & ~missing]
    if min(len(a), len(b)) < LEAST_GROUP:
        return "fewer than two values in a group"
    if kind == "text":
        if len(np.unique(np.concatenate([a, b]).astype(str))) > MOST_CATEGORIES:
            return f"more than {MOST_CATEGORIES} categories"
        return kind, categories(a, b, confidence)
    is_flag = kind == "boolean" or bool((((a == 0) | (a == 1)).all()) and (((b == 0) | (b == 1)).all()))
    return ("boolean", flags(a, b, confidence)) if is_flag else (kind, numbers(a, b, confidence))


def _adjusted(p_values: list[float], correction: str) -> list[float]:
    """Benjamini and Hochberg (1995), or Holm (1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    if not len(p):
        return []
    order = np.argsort(p)
    n = len(p)
    if correction == "holm":
        steps = np.maximum.accumulate(p[order] * (n - np.arange(n)))
    else:
        steps = np.minimum.accumulate((p[order] * n / np.arange(1, n + 1))[::-1])[::-1]
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(x) for x in adjusted]


def _sentence(group: str, reference: str, name: str, kind: str, d: Difference) -> str:
    auc, low, high = d.auc, d.auc_low, d.auc_high
    what = f"{name!r}"
    if kind == "number":
        how = f"median {d.member_value:.4g} against {d.reference_value:.4g} of {reference}"
        if auc < 0.5:
            auc, low, high, what = 1 - auc, 1 - high, 1 - low, f"low {what}"
    elif kind == "boolean":
        how = f"{percent(d.member_value)} against {percent(d.reference_value)} of {reference}"
        if auc < 0.5:
            auc, low, high, what = 1 - auc, 1 - high, 1 - low, f"the absence of {what}"
    else:
        how = (
            f"{str(d.category)[:60]!r} in {percent(d.member_value)} against {percent(d.reference_value)} of {reference}"
        )
    return f"{group.capitalize()} predict {what} with AUC {auc:.2f} ({low:.2f} to {high:.2f}): {how}."
