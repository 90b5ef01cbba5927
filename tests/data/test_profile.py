"""A profile of good data: like data pass, each change is named; and the commands with their exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn.datasets as bundled

from failguard import DataQualityError, InputError, profile_dataset
from failguard.data.profile import DataProfile, check_profile


def table(rows: int = 800, seed: int = 0) -> pd.DataFrame:
    r = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "a": r.normal(5, 1, rows),
            "n": r.poisson(2, rows),
            "c": r.choice(["red", "green", "blue"], rows),
            "ok": r.random(rows) < 0.4,
            "y": r.integers(0, 2, rows),
        }
    )


def found(data: pd.DataFrame) -> dict[str, str]:
    report = check_profile(data, profile_dataset(table()), raise_on_failure=False)
    return {f"{f.code} {','.join(f.to_dict()['columns'])}": f.severity.value for f in report.findings}


@pytest.mark.parametrize("seed", range(1, 6))
def test_like_data_pass(seed: int) -> None:
    assert found(table(seed=seed)) == {}
    assert found(table(100, seed=seed)) == {}


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits", "diabetes"])
def test_halves_of_real_tables_are_alike(name: str) -> None:
    frame = getattr(bundled, f"load_{name}")(as_frame=True).frame.sample(frac=1, random_state=0)
    half = len(frame) // 2
    assert check_profile(frame[half:], profile_dataset(frame[:half])).ok


def test_each_change_is_named() -> None:
    df = table(seed=1)
    assert found(df.drop(columns="a")) == {"data.schema a": "error"}
    assert found(df.assign(z=1)) == {"data.schema z": "warning"}
    assert found(df.assign(a="x")) == {"data.schema a": "error"}
    assert found(df.assign(a=df.a + 2)) == {"data.drift a": "warning"}
    assert found(df.assign(n=df.n + 1)) == {"data.drift n": "warning"}
    assert found(df.assign(a=df.a.where(df.index > 0, 1e4))) == {"data.outliers a": "warning"}
    assert found(df.assign(a=df.a.where(df.index > 0, np.inf))) == {"data.non_finite a": "error"}
    assert found(df.assign(a=df.a.where(df.index > 200))) == {"data.nulls a": "warning"}
    assert found(df.assign(a=df.a.where(df.index > 500))) == {"data.nulls a": "error"}
    assert found(df.assign(c=df.c.where(df.index > 100, "mauve")))["data.distribution c"] == "warning"
    assert found(df.assign(ok=True)) == {"data.drift ok": "warning"}
    with pytest.raises(DataQualityError, match="'a' is missing"):
        check_profile(df.drop(columns="a"), profile_dataset(df))


def test_it_survives_a_file(tmp_path: Path) -> None:
    profile = profile_dataset(table())
    profile.save(tmp_path / "p.json")
    assert DataProfile.load(tmp_path / "p.json") == profile
    for text in ("{}", "[]", "junk", '{"version": 99}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError, match=r"no data profile|Upgrade"):
            DataProfile.load(tmp_path / "bad.json")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "failguard", "data", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_the_commands_and_their_exit_codes() -> None:
    table().to_parquet("train.parquet")
    bad = table(seed=1)
    bad.loc[3, "a"] = np.inf
    bad.to_parquet("new.parquet")
    made = run("profile", "train.parquet", "-o", "profile.json")
    assert (made.returncode, made.stdout) == (0, "Profile of 800 rows and 5 columns: profile.json\n")
    fine = run("check", "train.parquet", "--profile", "profile.json", "--label", "y", "--html", "r.html")
    assert fine.returncode == 0, fine.stdout
    assert Path("r.html").read_text().startswith("<!doctype html>")
    fails = run("check", "new.parquet", "--profile", "profile.json", "--json")
    assert fails.returncode == 1
    assert [f["code"] for f in json.loads(fails.stdout)["findings"]] == ["data.non_finite"]
    assert run("check", "train.parquet", "--strict-source").returncode == 1
    split = run("split", "train.parquet", "train.parquet", "--label", "y")
    assert split.returncode == 1
    assert "training rows too" in " ".join(split.stdout.split())
    usage = [["none.csv"], ["train.parquet", "--label", "z"], ["train.parquet", "--profile", "r.html"]]
    for words in usage:
        wrong = run("check", *words)
        assert wrong.returncode == 2
        assert wrong.stderr.startswith("failguard: ")
        assert wrong.stderr.count("\n") == 1
