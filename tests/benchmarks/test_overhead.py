"""The overhead benchmark: trainings take turns, ratios are paired, tables say what was found. No figure is judged."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks are no part of the package

from benchmarks.overhead import __main__ as command
from benchmarks.overhead.chart import draw
from benchmarks.overhead.figures import EMPTY, median_interval, rows_of
from benchmarks.overhead.models import MODELS, torch_model
from benchmarks.overhead.peers import WIRING
from benchmarks.overhead.programs import PROGRAMS, LoopWatch
from benchmarks.overhead.tables import BEGIN, END, markdown, put_into_readme, readme
from benchmarks.overhead.turns import Block, Participant, Turns
from benchmarks.overhead.watches import LEVELS, PEERS, watch_for
from benchmarks.scale import fit_line

ROOT = Path(__file__).parents[2]


def participant(name, medians, *, ticks=100, spent_s=0.0):
    p = Participant(name, lambda tick: None, lambda: 0.0)
    p.blocks = [None if m is None else Block(m, 2 * m, 10) for m in medians]
    p.ticks, p.spent_s, p.in_turns_s = ticks, spent_s, 0.5
    return p


def test_ratios_are_paired_with_the_same_round():
    slow_rounds = [1e-3, 3e-3, 1e-3, 2e-3]
    rows = rows_of(
        "loop-mlp",
        [
            participant(EMPTY[0], slow_rounds),
            participant("standard", [1.01 * m for m in slow_rounds], spent_s=1e-3),
            participant(EMPTY[1], slow_rounds),
        ],
    )
    watched, control = rows
    assert watched.overhead.value == pytest.approx(1.0)
    assert (watched.overhead.low, watched.overhead.high) == (pytest.approx(1.0), pytest.approx(1.0))
    assert watched.cpu.value == pytest.approx(1.0)
    assert watched.own_us == pytest.approx(10.0)
    assert watched.own_percent == pytest.approx(100 * 1e-3 / 0.5)
    assert control.watch == EMPTY[1]
    assert control.overhead.value == pytest.approx(0.0)


def test_a_round_in_which_one_did_not_run_is_left_out_and_an_error_is_said():
    failed = participant("full", [])
    failed.error = RuntimeError("no such thing\nmore")
    rows = rows_of(
        "loop-mlp",
        [
            participant(EMPTY[0], [1.0, None, 1.0]),
            participant("standard", [2.0, 9.0, 2.0]),
            failed,
            participant(EMPTY[1], [1.0, 1.0, 1.0]),
        ],
    )
    assert rows[0].overhead.value == pytest.approx(100.0)
    assert rows[0].rounds == 2
    assert rows[1].said == "RuntimeError: no such thing"


def test_the_interval_holds_the_median_and_narrows_with_more_rounds():
    few = [0.9, 1.0, 1.1, 1.2]
    wide, narrow = median_interval(few), median_interval(few * 50)
    assert wide.low <= wide.value <= wide.high
    assert narrow.high - narrow.low < wide.high - wide.low


def test_trainings_take_turns_and_never_run_at_the_same_time():
    running, log = set(), []

    def training(name, pause_s):
        def train(tick):
            while tick():
                assert not running
                running.add(name)
                time.sleep(pause_s)
                log.append(name)
                running.discard(name)

        return train

    both = [Participant(n, training(n, s), lambda: 0.0) for n, s in (("a", 1e-3), ("b", 2e-3))]
    turns = Turns(both, turn_s=0.01, warm_up_s=5.0, warm_up_ticks=10)
    turns.run(0.2)
    assert [p.error for p in both] == [None, None]
    assert all(p.is_over for p in both)
    assert len(both[0].blocks) == len(both[1].blocks) >= 4
    assert all(b.ticks >= 4 and b.cpu_s >= 0 for p in both for b in p.blocks)
    switches = sum(x != y for x, y in itertools.pairwise(log))
    assert switches >= len(both[0].blocks)
    assert both[0].warm_at >= 10


def test_a_training_that_fails_ends_the_measurement_and_keeps_its_error():
    def failing(tick):
        for _ in range(30):
            tick()
        raise ValueError("out of data")

    def endless(tick):
        while tick():
            pass

    both = [Participant("a", failing, lambda: 0.0), Participant("b", endless, lambda: 0.0)]
    Turns(both, turn_s=0.001, warm_up_s=1.0, warm_up_ticks=10).run(0.1)
    assert isinstance(both[0].error, ValueError)
    assert both[1].is_over


@pytest.mark.parametrize(("name", "millions"), [("1m", 1.0), ("10m", 10.0)])
def test_models_have_the_size_of_their_name(name, millions):
    net, batch = torch_model(MODELS[name])
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, rel=0.05)
    x, y = batch(0)
    assert net(x).shape == (len(y), 10)


def test_what_is_planned_exists():
    for programs in command.PLAN.values():
        for program, watches, weight in programs:
            assert program in PROGRAMS
            assert set(watches) <= set(LEVELS)
            assert weight > 0
    assert set(WIRING) == set(PEERS)
    assert all(command.PEER_PROGRAM[f] in PROGRAMS for peer in PEERS.values() for f in peer.frameworks)


@pytest.mark.framework
@pytest.mark.parametrize("program", ["loop-tiny", "lightning-tiny", "keras-tiny-16-steps"])
@pytest.mark.parametrize("watch", [EMPTY[0], "standard"])
def test_a_program_trains_until_it_is_told_to_stop(program, watch, tmp_path):
    ticks = 0

    def tick():
        nonlocal ticks
        ticks += 1
        return ticks < 40

    given = watch_for(watch, PROGRAMS[program].framework, tmp_path)
    PROGRAMS[program].train(given.given, tick)
    assert ticks == 40
    records = list(tmp_path.rglob("failure_analysis.json"))
    assert len(records) == (watch == "standard")


@pytest.mark.framework
@pytest.mark.parametrize(
    "name", ["torch clip_grad_norm_", "torch detect_anomaly", "Lightning grad_norm", "Lightning detect_anomaly"]
)
def test_what_frameworks_bring_along_runs(name, tmp_path):
    framework = PEERS[name].frameworks[0]
    program = {"torch": "loop-tiny", "lightning": "lightning-tiny"}[framework]
    left = iter(range(20))
    PROGRAMS[program].train(watch_for(name, framework, tmp_path).given, lambda: next(left, None) is not None)
    assert next(left, None) is None


@pytest.mark.slow
@pytest.mark.framework
def test_the_command_measures_writes_and_says(tmp_path):
    arguments = ["--minutes", "0.1", "--parts", "frameworks", "--only", "loop-mlp", "--out", str(tmp_path)]
    job = {"program": "loop-tiny", "watches": ["standard"], "seconds": 1.0, "warm_up_s": 1.0, "warm_up_ticks": 50}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.overhead.worker", json.dumps(job)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.strip().splitlines()[-1])
    assert [r["watch"] for r in rows] == ["standard", EMPTY[1]]
    assert rows[0]["own_us"] > 0
    assert rows[0]["overhead"]["low"] <= rows[0]["overhead"]["value"] <= rows[0]["overhead"]["high"]
    command = [sys.executable, "-m", "benchmarks.overhead", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| loop-mlp |" in (tmp_path / "overhead.md").read_text()
    done = subprocess.run([*command, "--parts", "sizes"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "nothing to measure" in done.stderr


KEPT = {
    "parts": {
        "frameworks": {
            "machine": "Linux",
            "python": "3.12",
            "versions": {"torch": "2"},
            "date": "2026-01-01",
            "command": "x",
            "load_at_start": 0.1,
            "threads": 1,
            "rows": [
                {
                    "program": program,
                    "watch": watch,
                    "step_ms": 1.5,
                    "overhead": {"value": v, "low": v - 0.1, "high": v + 0.1},
                    "cpu": {"value": v, "low": v, "high": v},
                    "own_us": own,
                    "own_percent": None if own is None else own / 15,
                    "rounds": 9,
                    "steps": 99,
                    "said": "",
                }
                for program, watch, v, own in (
                    ("lightning-mlp", "standard", 0.7, 11.0),
                    ("lightning-mlp", EMPTY[1], 0.0, None),
                    ("lightning-1m", "standard", 2.0, 30.0),
                )
            ],
        },
        "peers": {
            "machine": "Linux",
            "python": "3.12",
            "versions": {},
            "date": "2026-01-01",
            "command": "x",
            "load_at_start": None,
            "rows": [{"program": "loop-mlp", "watch": "cockpit", "said": "not installable here: none"}],
        },
    }
}


def test_tables_say_what_was_found(tmp_path):
    text = markdown(KEPT)
    assert "| lightning-mlp | 1.50 | +0.70 (+0.60 to +0.80) |" in text
    assert text.count("| yes |") == 1
    assert "not installable here: none" in text
    short = readme(KEPT)
    assert "| lightning-mlp | 1.50 | +0.70 (+0.60 to +0.80) | 11.0 us, 0.73 % | yes |" in short
    assert "| no |" in short  # interval above one percent
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    put_into_readme(KEPT, page)
    assert page.read_text() == f"before\n{BEGIN}\n{short}\n{END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(ValueError, match="has no marks"):
        put_into_readme(KEPT, page)


def test_the_chart_is_drawn_where_there_are_sizes(tmp_path):
    assert draw(KEPT, tmp_path / "a.svg")
    assert "<svg" in (tmp_path / "a.svg").read_text()
    assert not draw({"parts": {}}, tmp_path / "b.svg")


def test_the_readme_shows_the_figures_that_are_kept():
    kept = json.loads((ROOT / "benchmarks" / "results" / "overhead.json").read_text())
    between = (ROOT / "README.md").read_text().partition(BEGIN)[2].partition(END)[0].strip()
    assert between == readme(kept)


def test_a_line_is_fitted():
    assert fit_line([1.0, 2.0, 3.0], [5.0, 7.0, 9.0]) == (pytest.approx(3.0), pytest.approx(2.0))


def test_the_loop_watch_does_nothing():
    watch = LoopWatch()
    assert watch.begin(None, "optimizer") == "optimizer"
    assert watch.step(None, None)
