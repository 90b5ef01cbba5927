from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failguard.core.containment import PartError
from failguard.core.finding import Finding, Severity
from failguard.core.run_info import RunInfo
from failguard.errors import InputError
from failguard.report.plain import from_plain, plain
from failguard.report.run_report import RunReport

REPORTS = ["failing", "healthy", "early_stop", "crashed"]

numbers = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False))
texts = st.text().filter(lambda s: s not in ("NaN", "Infinity", "-Infinity"))
values = st.recursive(
    st.one_of(st.none(), numbers, texts), lambda v: st.one_of(st.lists(v), st.dictionaries(st.text(), v)), max_leaves=20
)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> RunReport:
    return request.getfixturevalue(request.param)


def strict(d: object) -> object:
    return json.loads(json.dumps(d, allow_nan=False))


@pytest.mark.parametrize("report", REPORTS, indirect=True)
def test_the_round_trip_through_strict_json_is_exact(report):
    again = RunReport.from_dict(strict(report.to_dict()))
    assert again.to_dict() == report.to_dict()
    assert repr(again) == repr(report)  # repr, because NaN is not equal to itself


def test_values_that_are_not_finite_survive(failing):
    d = failing.to_dict()
    assert d["findings"][0]["evidence"]["last_loss"] == "NaN"
    assert d["run"]["config"]["max_norm"] == "Infinity"
    again = RunReport.from_dict(strict(d))
    assert math.isnan(again.findings[0].evidence["last_loss"])
    assert again.run.config["max_norm"] == math.inf


def test_types_come_back(failing):
    again = RunReport.from_dict(strict(failing.to_dict()))
    assert again.root == again.findings[0] or math.isnan(again.root.evidence["last_loss"])
    assert again.facts.class_counts == {0: 140, 1: 141}
    assert again.facts.model.activations == ("ReLU",)
    assert again.root.severity is Severity.ERROR
    assert again.failing


def test_unknown_keys_are_ignored_and_missing_parts_get_defaults(failing):
    d = failing.to_dict()
    d["of_a_later_version"] = 1
    d["run"]["more"] = d["facts"]["more"] = d["facts"]["model"]["more"] = d["compute"]["more"] = 2
    d["findings"][0]["more"] = d["diagnosis"]["more"] = 3
    assert RunReport.from_dict(d).to_dict() == failing.to_dict()
    for name in list(failing.to_dict()):
        d = failing.to_dict()
        del d[name]
        RunReport.from_dict(d)
    assert RunReport.from_dict({}).to_dict()["schema_version"] == 1


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ({"status": "melted"}, "status"),
        ({"findings": [{"severity": "error"}]}, "findings"),
        ({"findings": [3]}, "findings"),
        ({"root": {"code": "x", "severity": "bad"}}, "root"),
        ({"progress": 3}, "progress"),
        ({"progress": {"steps": "abc"}}, "progress"),
        ({"facts": {"max_epochs": "abc"}}, "facts"),
        ({"facts": {"class_counts": {"a": 1}}}, "facts"),
        ({"run": []}, "run"),
        ({"locations": [1]}, "locations"),
        ({"actions": [{}]}, "actions"),
    ],
)
def test_a_part_that_cannot_be_read_is_named(broken, named):
    with pytest.raises(InputError, match=f"'{named}'"):
        RunReport.from_dict(broken)


def test_something_else_is_refused():
    with pytest.raises(InputError, match="JSON object"):
        RunReport.from_dict([1])  # type: ignore[arg-type]


def test_dump_and_load(failing, tmp_path: Path):
    failing.notes.append("a lone \ud800 surrogate, an emoji \U0001f600 and ümlauts")
    failing.dump(tmp_path / "report.json")
    again = RunReport.load(tmp_path / "report.json")
    assert again.notes[0] == failing.notes[0]
    assert again.notes[1].endswith("\U0001f600 and ümlauts")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"a": NaN}', b"\x80\x04\x95."])
def test_a_file_that_is_no_record_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.json"):
        RunReport.load(path)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"none\.json"):
        RunReport.load(tmp_path / "none.json")


def test_odd_objects_become_text():
    import numpy as np

    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    cycle: dict[str, object] = {}
    cycle["self"] = cycle
    config = {
        "path": Path("a/b"),
        "number": np.float32(0.5),
        "nan": np.float64("nan"),
        "tuple": (1, 2),
        "set": {2, 1},
        "odd": Odd(),
        "cycle": cycle,
        3: len,
    }
    report = RunReport(RunInfo("a", "b", config=config), part_errors=[PartError("x", "y")])
    d = strict(report.to_dict())["run"]["config"]
    assert d["path"] == "a/b"
    assert d["number"] == 0.5
    assert d["nan"] == "NaN"
    assert d["tuple"] == d["set"] == [1, 2]
    assert d["odd"] == "<Odd>"
    assert d["3"].startswith("<built-in")


@given(values)
def test_plain_values_come_back_as_they_were(value):
    again = from_plain(json.loads(json.dumps(plain(value), allow_nan=False)))
    assert again == value
    assert repr(again) == repr(value)


def test_evidence_is_decoded_as_numbers():
    finding = Finding("loss.non_finite", Severity.ERROR, 1, 0, "NaN", evidence={"a": math.inf, "b": -math.inf})
    again = RunReport.from_dict(RunReport(RunInfo("a", "b"), findings=[finding]).to_dict())
    assert again.findings == [finding]
    assert again.findings[0].message == "NaN"  # a message stays text


def test_a_record_of_a_newer_version_is_read_as_far_as_it_goes(failing):
    d = {**failing.to_dict(), "schema_version": 7, "progress": {"steps": {"of": "a new kind"}}, "status": "paused"}
    report = RunReport.from_dict(d)
    assert report.root == failing.root
    assert report.notes[-1] == (
        "The record was written by a newer failguard (schema 7). What this version cannot read was left out: status, "
        "progress."
    )
    assert "newer failguard" in report.to_html()
    assert RunReport.from_dict({**failing.to_dict(), "schema_version": 2}).notes[-1].endswith("(schema 2).")
