"""Training against validation: clean splits of real tables pass, planted leaks and drifts are found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn.datasets as bundled
from sklearn.model_selection import train_test_split

from failguard import DataQualityError, InputError, check_split


def parts(name: str, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    frame = getattr(bundled, f"load_{name}")(as_frame=True).frame
    train, validation = train_test_split(frame, test_size=0.3, random_state=seed)
    return train.reset_index(drop=True), validation.reset_index(drop=True)


def codes(train: Any, validation: Any, **more: Any) -> dict[str, str]:
    report = check_split(train, validation, "target", raise_on_failure=False, **more)
    return {f.code: f.severity.value for f in reversed(report.findings)}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits", "diabetes"])
def test_random_splits_of_real_tables_pass(name: str, seed: int) -> None:
    report = check_split(*parts(name, seed), "target")
    assert [f for f in report.findings if f.severity.value != "info"] == []


def test_rows_in_both() -> None:
    train, validation = parts("breast_cancer")
    leaky = pd.concat([validation, train.iloc[:20]], ignore_index=True)
    with pytest.raises(DataQualityError, match=r"20 validation rows, 10 %, are training rows too \(rows 171, 172"):
        check_split(train, leaky, "target")
    assert codes(pl.from_pandas(train), pl.from_pandas(leaky)) == codes(train, leaky)
    # The order of columns and another label make no difference.
    shuffled = leaky[leaky.columns[::-1]].assign(target=0)
    assert codes(train, shuffled)["data.leakage"] == "error"


def test_rows_that_are_nearly_in_both() -> None:
    train, validation = parts("breast_cancer")
    near = train.iloc[:20] * (1 + 1e-7)
    near["target"] = train["target"].iloc[:20]
    report = check_split(train, pd.concat([validation, near], ignore_index=True), "target", raise_on_failure=False)
    (leak,) = report.failed
    assert "20 of 191" in leak.message


def test_drift_of_a_column_and_of_their_relation() -> None:
    train, validation = parts("breast_cancer")
    moved = validation.assign(**{"mean texture": validation["mean texture"] * 1.5})
    report = check_split(train, moved, "target", raise_on_failure=False)
    assert any("'mean texture'" in f.message and "Kolmogorov" in f.message for f in report.findings)
    r = np.random.default_rng(0)
    x, z = r.normal(size=(2, 1000))
    a, b = pd.DataFrame({"x": x, "y": x + 0.1 * z}), pd.DataFrame({"x": x + 0.01, "y": -x + 0.1 * z})
    report = check_split(a, b, raise_on_failure=False)
    assert ["classifier" in f.message for f in report.findings] == [True]
    words = pd.DataFrame({"w": ["a", "b"] * 200, "n": r.normal(size=400)})
    other = pd.DataFrame({"w": ["a", "a", "a", "b"] * 100, "n": r.normal(size=400)})
    assert any("total variation" in f.message for f in check_split(words, other, raise_on_failure=False).findings)


def test_labels_and_columns_that_training_does_not_have() -> None:
    train, validation = parts("wine")
    assert codes(train[train.target < 2], validation)["data.labels"] == "error"
    assert codes(train, validation.drop(columns="ash"))["data.schema"] == "error"
    assert codes(train, validation.assign(ash="much"))["data.schema"] == "error"
    with pytest.raises(InputError, match="no feature in common"):
        check_split(train, pd.DataFrame({"z": [1]}), "target")


def test_time() -> None:
    days = pd.date_range("2024-01-01", periods=400)
    frame = pd.DataFrame({"t": days, "x": np.random.default_rng(0).normal(size=400)})
    mixed = frame.sample(frac=1, random_state=0)
    found = [f.code for f in check_split(mixed[:300], mixed[300:], time="t", raise_on_failure=False).findings]
    assert "data.time_leakage" in found
    found = [f.code for f in check_split(frame[:300], frame[300:], time="t", raise_on_failure=False).findings]
    assert "data.time_leakage" not in found
    zoned = frame[300:].assign(t=frame["t"][300:].dt.tz_localize("UTC"))
    with pytest.raises(InputError, match="time zone in one part only"):
        check_split(frame[:300], zoned, time="t")
    with pytest.raises(InputError, match="no column 'when'"):
        check_split(frame, frame, time="when")
