"""Checks of one table: real tables pass, corruptions are found, every source gives the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn.datasets as bundled

from failguard import DataQualityError, DataThresholds, InputError, validate_dataset
from failguard.data import needs, scan
from failguard.errors import ConfigurationError, MissingExtraError

TABLES = ("iris", "wine", "breast_cancer", "digits", "diabetes", "linnerud")


def table(rows: int = 600, seed: int = 0) -> pd.DataFrame:
    r = np.random.default_rng(seed)
    y = r.integers(0, 3, rows)
    return pd.DataFrame(
        {
            "a": r.normal(size=rows) + y,
            "b": r.exponential(size=rows),
            "c": r.choice(["red", "green", "blue"], rows),
            "d": r.normal(size=rows),
            "y": y,
        }
    )


def codes(data: Any, label: str | None = "y", **more: Any) -> dict[str, str]:
    report = validate_dataset(data, label, raise_on_failure=False, **more)
    return {f.code: f.severity.value for f in reversed(report.findings)}


@pytest.mark.parametrize("name", TABLES)
def test_real_tables_pass_and_the_rules_of_the_source_fail_them(name: str) -> None:
    bunch = getattr(bundled, f"load_{name}")()
    report = validate_dataset(bunch)
    assert report.ok
    warned = {f.code for f in report.findings if f.severity.value == "warning"}
    assert warned <= {"data.scale", "data.constant_feature"}
    with pytest.raises(DataQualityError, match=r"Failed checks: .*data\.distribution"):
        validate_dataset(bunch, strict="source")


def put(column: str, rows: slice, value: Any) -> Callable[[pd.DataFrame], None]:
    def corrupt(df: pd.DataFrame) -> None:
        df[column] = df[column].astype(object) if isinstance(value, str) and column != "c" else df[column]
        df.iloc[rows, df.columns.get_loc(column)] = value

    return corrupt


def add(name: str, make: Callable[[pd.DataFrame], Any]) -> Callable[[pd.DataFrame], None]:
    def corrupt(df: pd.DataFrame) -> None:
        df[name] = make(df)

    return corrupt


CORRUPTIONS = {
    "nulls": (put("a", slice(0, 60), None), "data.nulls", "warning"),
    "no value": (put("a", slice(None), np.nan), "data.nulls", "error"),
    "infinite": (put("a", slice(5, 6), np.inf), "data.non_finite", "error"),
    "one far out": (put("a", slice(5, 6), 1e6), "data.outliers", "warning"),
    "many far out": (add("a", lambda df: df.a.where(df.index > 19, df.a * 1e5)), "data.outliers", "error"),
    "placeholder": (put("a", slice(0, 20), -999.0), "data.distribution", "warning"),
    "constant": (put("d", slice(None), 1.0), "data.constant_feature", "warning"),
    "mixed": (put("a", slice(0, 3), "n/a?"), "data.types", "warning"),
    "numbers as text": (add("t", lambda df: df["a"].map("{:.3f}".format)), "data.types", "warning"),
    "objects": (add("o", lambda df: [[1, 2]] * len(df)), "data.types", "warning"),
    "unscaled": (add("m", lambda df: df["a"] * 1e5), "data.scale", "warning"),
    "row number": (add("id", lambda df: range(len(df))), "data.identifier", "warning"),
    "name": (add("key", lambda df: [f"u{i * 7919 % 100_003}" for i in range(len(df))]), "data.identifier", "warning"),
    "leak": (add("leak", lambda df: df["y"] * 2 + 1), "data.target_leakage", "error"),
    "null labels": (put("y", slice(0, 3), None), "data.labels", "error"),
    "one class": (put("y", slice(None), 1), "data.labels", "error"),
    "spelling": (add("y", lambda df: np.r_[["Cat "] * 9, ["cat", "dog"] * 295, ["dog"]]), "data.labels", "warning"),
    "rare class": (put("y", slice(0, 2), 3), "data.imbalance", "warning"),
}  # fmt: skip


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_corruption_is_found_alike_in_pandas_and_polars(name: str) -> None:
    corrupt, code, severity = CORRUPTIONS[name]
    df = table()
    assert code not in codes(df)
    corrupt(df)
    assert codes(df)[code] == severity
    try:
        frame = pl.from_pandas(df)
    except (pa.ArrowException, TypeError):
        return  # Arrow has no mixed cells
    assert codes(frame) == codes(df)


def test_duplicates_and_conflicts() -> None:
    df = table()
    twice = pd.concat([df, df.iloc[:30]], ignore_index=True)
    assert codes(twice)["data.duplicates"] == "warning"
    assert codes(pd.concat([df, df]))["data.duplicates"] == "error"
    other = df.iloc[:30].assign(y=(df["y"] + 1) % 3)
    report = validate_dataset(pd.concat([df, other], ignore_index=True), "y", raise_on_failure=False)
    (conflict,) = (f for f in report.findings if f.code == "data.labels")
    assert conflict.to_dict()["count"] == 60
    assert conflict.to_dict()["rows"] == [0, 1, 2, 3, 4]
    few = pd.DataFrame({"sex": [0, 1] * 300, "y": [0, 0, 1, 1] * 150})
    assert codes(few)["data.duplicates"] == "info"  # of two values nothing else can be


def test_the_error_names_every_failed_check_with_counts_columns_and_rows() -> None:
    df = table()
    df.loc[[7, 9], "a"] = np.inf
    df.loc[:400, "b"] = np.nan
    with pytest.raises(DataQualityError) as caught:
        validate_dataset(df, "y")
    text = str(caught.value)
    assert "Failed checks: data.nulls, data.non_finite" in text
    assert "'a' has 2 infinite values (rows 7, 9)." in text
    assert "'b' has 401 missing values" in text
    assert caught.value.report.to_dict()["ok"] is False


def test_every_source_gives_the_same(tmp_path: Path) -> None:
    df = table()
    df.loc[3, "a"] = 1e6
    df.loc[5:40, "b"] = np.nan
    df.to_csv(tmp_path / "t.csv", index=False)
    df.to_parquet(tmp_path / "t.parquet")
    df.to_feather(tmp_path / "t.feather")
    expected = validate_dataset(df, "y", raise_on_failure=False).to_dict()["findings"]
    assert {f["code"] for f in expected} == {"data.outliers", "data.nulls"}
    sources = [pl.from_pandas(df), pa.Table.from_pandas(df), {n: df[n].to_numpy() for n in df}]
    for source in [*sources, *(tmp_path / f"t.{kind}" for kind in ("csv", "parquet", "feather"))]:
        assert validate_dataset(source, "y", raise_on_failure=False).to_dict()["findings"] == expected
    numbers = df[["a", "b"]].to_numpy()
    assert {f["code"] for f in validate_dataset(numbers).to_dict()["findings"]} == {f["code"] for f in expected}


def test_chunks_and_samples_count_every_row_and_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    df = table(6_000)
    df.loc[5_990, "a"] = np.inf
    df.loc[5_000:5_100, "b"] = np.nan
    df = pd.concat([df, df.iloc[:200]], ignore_index=True)
    df.to_csv(tmp_path / "t.csv", index=False)
    whole = validate_dataset(df, "y", raise_on_failure=False)
    monkeypatch.setattr("failguard.data.tables.CHUNK_CELLS", 1_000)
    monkeypatch.setattr(scan, "SAMPLE_ROWS", 500)
    monkeypatch.setattr(scan, "KEPT_HASHES", 2_000)
    part = validate_dataset(tmp_path / "t.csv", "y", raise_on_failure=False)
    assert not whole.notes
    assert "500 of 6,200 rows" in part.notes[0]
    assert "Duplicates are counted among 0.25" in part.notes[1]
    exact = ("data.nulls", "data.non_finite")
    assert [f.message for f in part.findings if f.code in exact] == [
        f.message for f in whole.findings if f.code in exact
    ]
    (estimate,) = (f for f in part.findings if f.code == "data.duplicates")
    assert 120 < estimate.evidence["duplicates"] < 300


def test_thresholds_by_column() -> None:
    df = table()
    df.loc[:40, ["a", "b"]] = np.nan
    limits = {"thresholds": {"null_share_warning": 0.2}, "column_thresholds": {"b": {"null_share_error": 0.01}}}
    report = validate_dataset(df, "y", **limits, raise_on_failure=False)
    assert [(f.severity.value, f.where.tensor) for f in report.findings] == [("error", "b"), ("info", "a")]
    assert validate_dataset(df, "y", thresholds=DataThresholds(null_share_warning=1), raise_on_failure=False).ok
    for wrong in ({"thresholds": {"null_shar": 1}}, {"thresholds": {"skewness": -1}}, {"column_thresholds": {"z": {}}}):
        with pytest.raises(ConfigurationError):
            validate_dataset(df, "y", **wrong)
    for wrong in ({"strict": "all"}, {"checks": ["null"]}, {"ignore": ["data.null"]}):
        with pytest.raises(ConfigurationError):
            validate_dataset(df, "y", **wrong)


def test_labels_that_are_not_allowed() -> None:
    assert codes(table(), classes=3) == {}
    report = validate_dataset(table(), "y", classes=[0, 1], raise_on_failure=False)
    assert "none of the classes given: 2" in report.findings[0].message


BAD = {
    "no rows": (pd.DataFrame({"a": []}), "no rows"),
    "no columns": (pd.DataFrame(), "no columns"),
    "names twice": (pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column of the name 'a'"),
    "images": (np.zeros((4, 8, 8)), "look_at"),
    "one dimension": (np.zeros(4), "two dimensions"),
    "ragged list": ([[1, 2], [3]], "cannot be read as an array"),
    "lengths": ({"a": [1], "b": [1, 2]}, "different lengths"),
    "inputs of a model": ({"a": np.zeros((3, 2)), "b": np.zeros(3)}, "look_at"),
    "lazy": (pl.LazyFrame({"a": [1]}), "collect"),
    "series": (pd.Series([1, 2]), "single column"),
    "nothing": (None, "no table"),
    "no file": ("missing.csv", "no file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_clear_word(name: str) -> None:
    data, words = BAD[name]
    with pytest.raises(InputError, match=words):
        validate_dataset(data)


def test_more_bad_input(tmp_path: Path) -> None:
    import scipy.sparse

    with pytest.raises(InputError, match="sparse"):
        validate_dataset(scipy.sparse.eye(3))
    with pytest.raises(InputError, match="no column 'z'"):
        validate_dataset(table(), "z")
    for name, text in (("a.csv", b"x\n\xff\xfe\x00"), ("a.parquet", b"junk"), ("empty.csv", b""), ("a.txt", b"1")):
        (tmp_path / name).write_bytes(text)
        with pytest.raises(InputError, match=r"cannot be read"):
            validate_dataset(tmp_path / name)
    zones = pd.DataFrame({"t": [pd.Timestamp("2020", tz="UTC"), pd.Timestamp("2021", tz="Asia/Tokyo")] * 30})
    report = validate_dataset(zones, raise_on_failure=False)
    assert "time in zone" in report.findings[0].message


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_empty_columns_objects_in_cells_and_a_single_class_are_named(make: Any) -> None:
    values = {"a": np.arange(120.0) % 7, "empty": [None] * 120, "lists": [[i] for i in range(120)], "y": [1] * 120}
    messages = {
        f.message.partition(":")[0]: f for f in validate_dataset(make(values), "y", raise_on_failure=False).findings
    }
    assert messages["Column 'empty' has no value at all."].severity == "error"
    assert messages["Column 'lists' holds objects"].code == "data.types"
    assert messages["All rows have the same label"].code == "data.labels"


def test_a_file_that_changes_its_type_on_the_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n" + "1.5\n" * 3_000 + "oops\n" * 200)
    monkeypatch.setattr("failguard.data.tables.LARGEST_CHUNK", 1_000)
    assert codes(tmp_path / "t.csv", None)["data.types"] == "warning"


def test_nothing_is_changed_and_no_stream_is_touched() -> None:
    df = table()
    before, state = df.copy(), np.random.get_state()[1].copy()
    validate_dataset(df, "y")
    pd.testing.assert_frame_equal(df, before)
    assert (np.random.get_state()[1] == state).all()


def test_a_missing_library_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "narwhals", None)
    with pytest.raises(MissingExtraError, match=r"narwhals.*failguard-ml\[data\]"):
        needs.need("narwhals")
    monkeypatch.setitem(sys.modules, "sklearn.tree", None)
    with pytest.raises(MissingExtraError, match="scikit-learn"):
        needs.need("sklearn.tree")


def test_importing_the_checks_loads_no_library_of_the_extra() -> None:
    code = "import failguard; failguard.validate_dataset; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not set(done.stdout.split()) & {"pandas", "scipy", "sklearn", "narwhals", "polars", "pyarrow", "torch"}


def test_pages() -> None:
    df = table().rename(columns={"a": "<b>a|</b>"})
    df.iloc[3, 0] = np.inf
    report = validate_dataset(df, "y", raise_on_failure=False)
    assert "Failed checks: data.non" in report.to_markdown()
    assert r"\<b\>a\|" in report.to_markdown()
    for page in (report.to_html(), report._repr_html_()):
        assert "<b>a" not in page
        assert "infinite values" in page


def test_label_issues_need_fitting_probabilities_and_cleanlab(monkeypatch: pytest.MonkeyPatch) -> None:
    df = table()
    with pytest.raises(InputError, match=r"shape \(600, 2\), but the labels need \(600, 3\)"):
        validate_dataset(df, "y", predicted_probabilities=np.full((600, 2), 0.5))
    with pytest.raises(InputError, match="needs label="):
        validate_dataset(df, predicted_probabilities=np.full((600, 3), 1 / 3))
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(MissingExtraError, match="cleanlab"):
        validate_dataset(df, "y", predicted_probabilities=np.full((600, 3), 1 / 3))


@pytest.mark.parametrize("frame", ["pandas", "polars", "text labels"])
def test_label_issues_are_the_labels_that_were_flipped(frame: str) -> None:
    pytest.importorskip("cleanlab", minversion="2.8")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    df = load_digits(as_frame=True).frame
    r = np.random.default_rng(0)
    flipped = r.choice(len(df), 40, replace=False)
    df.loc[flipped, "target"] = (df.loc[flipped, "target"] + 1 + r.integers(0, 9, 40)) % 10
    model = KNeighborsClassifier(15)
    probabilities = cross_val_predict(model, df.drop(columns="target"), df["target"], method="predict_proba")
    before = probabilities.copy()
    given: Any = df.assign(target="digit " + df["target"].astype(str)) if frame == "text labels" else df
    given = pl.from_pandas(df) if frame == "polars" else given
    report = validate_dataset(given, "target", predicted_probabilities=probabilities, raise_on_failure=False)
    (finding,) = (f for f in report.findings if "contradict the predictions" in f.message)
    assert (finding.code, finding.severity, finding.columns) == ("data.labels", "warning", ("target",))
    assert len(set(finding.rows) & set(flipped.tolist())) >= 4  # row 5 of the digits looks like a 9 to many models
    assert 36 <= finding.count <= 60
    assert "label_issues" in report.checks
    assert np.array_equal(before, probabilities)
    assert "label_issues" not in validate_dataset(df, "target", raise_on_failure=False).checks
