"""What false positives have in common: planted columns are found, random ones are not, intervals cover."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from failguard import InputError, analyze_false_positives
from failguard.data import membership
from failguard.errors import ConfigurationError, FailGuardError


def users(n: int = 3_000, seed: int = 0) -> tuple[Any, Any, pd.DataFrame]:
    """Predictions whose false positives churn, contact support and come by one channel."""
    r = np.random.default_rng(seed)
    truth = r.random(n) < 0.1
    predicted = np.where(truth, r.random(n) < 0.8, r.random(n) < 0.15)
    fp = predicted & ~truth
    data = pd.DataFrame(
        {
            "churned_within_30_days": np.where(fp, r.random(n) < 0.8, r.random(n) < 0.12),
            "support_tickets": r.poisson(np.where(fp, 3.0, 1.0)),
            "channel": np.where(fp & (r.random(n) < 0.5), "ads", r.choice(["ads", "web", "shop"], n)),
            "age": r.normal(40, 10, n),
            "plan": r.choice(list("abcdef"), n),
            "newsletter": r.random(n) < 0.5,
        }
    )
    return predicted, truth, data


def test_planted_columns_are_recovered_and_ranked() -> None:
    result = analyze_false_positives(*users())
    assert [r.column for r in result.significant] == ["churned_within_30_days", "support_tickets", "channel"]
    best = result.rows[0]
    assert best.auc == pytest.approx(0.84, abs=0.03)
    assert best.auc_low < 0.84 < best.auc_high
    assert best.lift == pytest.approx(0.8 / 0.12, rel=0.2)
    assert best.sentence.startswith("False positives predict 'churned_within_30_days' with AUC 0.8")
    assert result.rows[2].category == "ads"
    assert result.to_dict()["rows"][0]["column"] == "churned_within_30_days"


def test_pandas_and_polars_agree_and_gaps_do_not_matter() -> None:
    predicted, truth, data = users()
    result = analyze_false_positives(predicted, truth, data)
    assert analyze_false_positives(pl.Series(predicted), truth.astype(int), pl.from_pandas(data)).rows == result.rows
    gaps = data.astype({"churned_within_30_days": object})
    gaps.loc[::10, ["churned_within_30_days", "age"]] = None
    again = analyze_false_positives(predicted, truth, gaps)
    assert [r.column for r in again.significant] == [r.column for r in result.significant]
    assert again.rows[0].reference < result.rows[0].reference


def test_scores_false_negatives_and_any_slice() -> None:
    predicted, truth, data = users()
    scores = np.where(predicted, 0.9, 0.2)
    assert analyze_false_positives(scores, truth, data).rows == analyze_false_positives(predicted, truth, data).rows
    assert analyze_false_positives(scores, truth, data, threshold=0.1, members=truth).group == "members"
    missed = analyze_false_positives(predicted, truth, data, members="false_negatives")
    assert (missed.group, missed.members) == ("false negatives", int((~predicted & truth).sum()))
    assert missed.significant == []
    slice_ = analyze_false_positives(predicted, truth, data, members=(data["age"] > 50).to_numpy())
    assert slice_.rows[0].column == "age"
    assert slice_.rows[0].auc == 1.0
    assert slice_.rows[0].auc_low < 1.0


@pytest.mark.parametrize("correction", ["benjamini-hochberg", "holm"])
def test_on_random_columns_few_runs_discover_anything(correction: str) -> None:
    """200 columns that say nothing: at most 5 % of runs may report any, by chance up to 4 of 20."""
    discoveries = runs = 0
    for seed in range(20):
        r = np.random.default_rng(seed)
        n = 400
        data = {f"n{i}": r.normal(size=n) for i in range(80)} | {f"b{i}": r.random(n) < r.random() for i in range(60)}
        data |= {f"c{i}": r.choice(list("abcdefgh")[: 2 + i % 6], n) for i in range(60)}
        result = analyze_false_positives(r.random(n) < 0.3, r.random(n) < 0.5, data, correction=correction)
        assert len(result.rows) == 200
        discoveries += len(result.significant)
        runs += bool(result.significant)
    assert runs <= 4
    assert discoveries <= 0.05 * 20 * 200


def test_p_values_are_uniform_under_chance_and_intervals_cover() -> None:
    r = np.random.default_rng(1)
    true_auc = 0.714  # of normals 0.8 apart: Phi(0.8 / sqrt(2))
    covered, small = [], []
    for _ in range(400):
        a, b = r.normal(0.8, 1, 40), r.normal(0, 1, 120)
        d = membership.numbers(a, b, 0.95)
        covered.append(d.auc_low <= true_auc <= d.auc_high)
        words = r.choice(list("abcd"), 160, p=[0.9, 0.05, 0.03, 0.02])
        small.append(membership.categories(words[:40], words[40:], 0.95).p_value)
    assert np.mean(covered) > 0.92
    assert np.mean(np.array(small) <= 0.05) < 0.08
    rates = [membership.flags((r.random(40) < 0.7) * 1.0, (r.random(120) < 0.2) * 1.0, 0.95) for _ in range(400)]
    assert np.mean([d.effect_low <= 0.5 <= d.effect_high for d in rates]) > 0.92
    # Categories that say nothing do not seem to.
    many = [str(w) for w in r.integers(0, 60, 400)]
    assert abs(membership.categories(np.array(many[:100]), np.array(many[100:]), 0.95).auc - 0.5) < 0.12


def test_columns_that_cannot_be_compared_are_named() -> None:
    predicted, truth, data = users(500)
    data["list"] = [[1]] * 500
    data["when"] = pd.Timestamp("2024-01-01")
    data["empty"] = None
    data["key"] = [f"u{i}" for i in range(500)]
    result = analyze_false_positives(predicted, truth, data)
    assert set(result.skipped) == {"list", "when", "empty", "key"}
    assert "left out" in result.to_markdown()


BAD = {
    "lengths": (([1, 0], [0, 1, 0], {"a": [1, 2, 3]}), "2 predictions, but 3"),
    "rows": (([1, 0, 0, 1], [0, 0, 0, 0], {"a": [1, 2, 3]}), "3 rows, but there are 4"),
    "classes": (([1, 0], [0, 2], {"a": [1, 2]}), "only 0 and 1"),
    "text": ((["x", "y"], [0, 1], {"a": [1, 2]}), "0 and 1, or booleans"),
    "probabilities": ((np.zeros((2, 3)), [0, 1], {"a": [1, 2]}), "column of the positive class"),
    "missing": (([np.nan, 1], [0, 1], {"a": [1, 2]}), "missing or infinite"),
    "none": (([0, 0, 0], [0, 0, 1], {"a": [1, 2, 3]}), "0 false positives: too few"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_clear_word(name: str) -> None:
    arguments, words = BAD[name]
    with pytest.raises(InputError, match=words):
        analyze_false_positives(*arguments)


def test_keywords_that_cannot_be_used() -> None:
    for wrong in ({"correction": "none"}, {"alpha": 0}, {"confidence": 95}, {"members": "errors"}):
        with pytest.raises(ConfigurationError):
            analyze_false_positives(*users(100), **wrong)
    with pytest.raises(InputError, match="no column 'z'"):
        analyze_false_positives(*users(100), columns=["z"])


def test_pages_escape_names() -> None:
    predicted, truth, data = users()
    data = data.rename(columns={"churned_within_30_days": "<script>|"})
    result = analyze_false_positives(predicted, truth, data)
    assert "predict" in result.to_markdown()
    for text in (result.to_html(), result._repr_html_()):
        assert "<script>" not in text
        assert "<svg" in text
    assert "3 columns set false positives apart" in result.to_html().lower()


@pytest.mark.framework
def test_it_is_logged_to_a_real_store(monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///store.db")
    result = analyze_false_positives(*users())
    with pytest.raises(FailGuardError, match="no active MLflow run"):
        result.log_to_mlflow()
    with mlflow.start_run():
        run_id = result.log_to_mlflow()
    client = mlflow.MlflowClient()
    assert client.get_run(run_id).data.metrics["failguard/false_positives/churned_within_30_days/auc"] > 0.8
    text = mlflow.artifacts.load_text(f"runs:/{run_id}/failguard/false_positives.json")
    assert json.loads(text)["rows"][0]["column"] == "churned_within_30_days"
    with pytest.raises(FailGuardError, match="refused"):
        result.log_to_mlflow("0" * 32)
