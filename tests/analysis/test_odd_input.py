"""Whatever a file holds: a report or one clear error, in bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from failguard.analysis import analyze
from failguard.errors import ConfigurationError, InputError

CELLS = st.one_of(
    st.sampled_from(
        ["", "nan", "inf", "-inf", "1e400", "-", "None", "0", "1", "1.5", "x", '"', "1;5", "\u00e9", "1_000"]
    ),
    st.floats().map(str),
    st.integers(-5, 10**18).map(str),
)
NAMES = st.sampled_from(["loss", "train_loss", "val_loss", "epoch", "step", "lr", "acc", "grad_norm", "a", ""])
VALUES = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=2)
)
QUIET = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def says_something(source: Any, **keywords: Any) -> None:
    try:
        said = analyze(source, **keywords).to_markdown()
    except (InputError, ConfigurationError) as error:
        said = str(error)
    assert said.strip()


@given(st.binary(max_size=400), st.sampled_from(["a.csv", "a.jsonl", "a.json", "a.txt", "events.out.tfevents.1"]))
@QUIET
def test_bytes(content: bytes, name: str) -> None:
    Path(name).write_bytes(content)
    says_something(name)


@given(
    st.lists(NAMES, min_size=1, max_size=5),
    st.lists(st.lists(CELLS, max_size=6), max_size=12),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from([None, "epoch", "step"]),
)
@QUIET
def test_tables(header: list[str], rows: list[list[str]], separator: str, per: Any) -> None:
    Path("a.csv").write_text("\n".join(separator.join(row) for row in [header, *rows]))
    says_something("a.csv", per=per)


@given(st.lists(st.dictionaries(NAMES, VALUES, max_size=5), max_size=12), st.sampled_from([None, "epoch", "step"]))
@QUIET
def test_records(records: list[dict[str, Any]], per: Any) -> None:
    Path("a.jsonl").write_text("\n".join(json.dumps(record) for record in records))
    says_something("a.jsonl", per=per)
    Path("a.json").write_text(json.dumps({"log_history": records}))
    says_something("a.json", per=per)


@given(
    st.dictionaries(NAMES, st.lists(st.one_of(st.none(), st.floats()), max_size=12), max_size=5),
    st.sampled_from([None, "epoch", "step"]),
)
@QUIET
def test_series(series: dict[str, Any], per: Any) -> None:
    says_something(series, per=per)


def test_a_record_of_our_own_is_named() -> None:
    path = Path("failguard_runs", "20260101-000000-abc", "failguard", "report.json")
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(InputError, match="failguard report failguard_runs"):
        analyze(path.parents[1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux")
def test_memory_does_not_grow_with_the_log() -> None:
    """Held as Python numbers, the longer log would take about 40 MB more than the shorter."""
    script = (
        "import sys; from pathlib import Path; from failguard import analyze; analyze(sys.argv[1]);"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    peaks_kb = []
    for n in (15_000, 150_000):
        rows = "".join(f"{i // 1000},{i},{2.3 / (1 + i)},{0.5 if i % 1000 == 999 else ''}\n" for i in range(n))
        Path("log.csv").write_text("epoch,step,train_loss,val_loss\n" + rows)
        done = subprocess.run(
            [sys.executable, "-c", script, "log.csv"], capture_output=True, text=True, check=True, timeout=300
        )
        peaks_kb.append(int(done.stdout))
    assert peaks_kb[1] - peaks_kb[0] < 12_000
