"""Logs that other tools left behind."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from failguard.analysis import analyze
from failguard.analysis.json_log import read_json, read_json_lines
from failguard.analysis.log import Log
from failguard.analysis.sources import read
from failguard.errors import InputError
from failguard.report.run_report import RunReport


def columns_of(log: Log) -> dict[str, list[float | None]]:
    rows = list(log.rows())
    return {name: [row[i] for row in rows] for i, name in enumerate(log.names)}


def written(name: str, content: object) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def said(report: RunReport, text: str) -> bool:
    return any(text in note for note in report.notes)


HISTORY = {"loss": [1.0, 0.5, math.nan], "val_loss": [1.1, 0.7, math.nan], "accuracy": [0.4, 0.6, 0.1]}


@pytest.mark.parametrize(
    "content",
    [
        HISTORY,
        {"history": HISTORY, "epoch": [0, 1, 2], "params": {"epochs": 3}},
        {name: {str(i): v for i, v in enumerate(values)} for name, values in HISTORY.items()},
        [dict(zip(HISTORY, row, strict=True)) for row in zip(*HISTORY.values(), strict=True)],
    ],
    ids=["history", "whole object", "pandas", "records"],
)
def test_keras_history_json(content: object) -> None:
    report = analyze(written("history.json", content), per="epoch")
    assert report.root is not None
    assert (report.root.code, report.root.epoch) == ("loss.non_finite", 2)
    assert report.best["epoch"] == 1


def trainer_state(**more: object) -> dict[str, Any]:
    log: list[dict[str, Any]] = []
    for i in range(1, 41):
        log.append({"epoch": i / 10, "grad_norm": 1.0, "learning_rate": 5e-5, "loss": 2.0 / i, "step": 10 * i})
        if i % 10 == 0:
            log.append(
                {"epoch": i / 10, "eval_loss": 2.1 / i, "eval_runtime": 3.0, "eval_steps_per_second": 9, "step": 10 * i}
            )
    log.append({"epoch": 4.0, "step": 400, "total_flos": 1e18, "train_loss": 0.3, "train_runtime": 60.0})
    return {"log_history": log, "global_step": 400, "max_steps": 400, "train_batch_size": 8, **more}


def test_hf_trainer_state() -> None:
    report = analyze(written("checkpoint-400/trainer_state.json", trainer_state()))
    assert report.findings == []
    assert (report.progress.steps, report.progress.epochs) == (401, 4)
    assert report.best["value"] == pytest.approx(2.1 / 40)
    assert report.facts.optimizer.learning_rate == 5e-5
    assert report.facts.batch_size == 8
    assert said(report, "validation loss from 'eval_loss'")
    assert not said(report, "runtime"), "timings are no metrics"
    assert analyze("checkpoint-400").progress.epochs == 4, "the folder will do"


def test_hf_trainer_state_of_a_run_that_was_cut_short() -> None:
    state = trainer_state(max_steps=1000)
    state["log_history"][20]["grad_norm"] = math.nan
    report = analyze(written("trainer_state.json", state))
    assert report.root is not None
    assert report.root.code == "gradient.non_finite"
    assert said(report, "400 of 1000 planned steps")


def test_json_lines() -> None:
    lines = [
        '{"step": 0, "metrics": {"loss": 2.0}, "phase": "train"}',
        '{"step": 1, "metrics": {"loss": "NaN"}}',
        "",
        "[1, 2]",
        '{"step": 2, "metrics": {"loss": 1.0, "val_loss": -Infinity}}',
        '{"step": 3, "metr',
    ]
    log = read_json_lines(written("log.jsonl", "\n".join(lines)))
    columns = columns_of(log)
    assert columns["step"] == [0.0, 1.0, 2.0]
    assert math.isnan(columns["metrics.loss"][1] or 0.0)
    assert columns["metrics.val_loss"] == [None, None, -math.inf]
    assert log.text == {"phase": "record 1: 'train'"}
    assert log.notes == ["2 line(s) are no JSON object and were left out, the first is line 4."]


def test_json_lines_by_content() -> None:
    content = '{"step": 0, "loss": 2.0}\n{"step": 1, "loss": 1.0}\n'
    for name in ("log.txt", "log.json", "log"):
        assert columns_of(read(written(name, content)))["loss"] == [2.0, 1.0]
    assert columns_of(read(written("table.log", "epoch,loss\n0,1\n")))["loss"] == [1.0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", '{"loss": [1.0, 0.5', "no JSON, or cut short"),
        ("a.json", "", "no JSON, or cut short"),
        ("a.json", "3", "holds int"),
        ("a.json", '{"model": "mlp"}', "holds no series of numbers"),
        ("a.json", '{"log_history": []}', "no number in the log_history"),
        ("a.jsonl", "", "no number in 'a.jsonl'"),
        ("a.jsonl", "oops\n", "Line 1 is no JSON object: 'oops'"),
        ("a.jsonl", '{"phase": "train"}\n', "no number in 'a.jsonl'"),
        ("a.txt", "hello\nworld\n", "Supported: CSV with a header"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(written(name, content))


def test_very_deep_json_is_no_crash() -> None:
    with pytest.raises(InputError, match="no JSON"):
        read_json(written("deep.json", "[" * 200_000))


def test_folders() -> None:
    with pytest.raises(InputError, match="folder without a log"):
        read(written("empty/x.bin", "").parent)
    written("version_0/metrics.csv", "epoch,loss\n0,1\n")
    written("version_0/hparams.yaml", "lr: 1")
    assert read("version_0").names == ["epoch", "loss"]
    written("many/a.csv", "loss\n1\n")
    written("many/b.csv", "loss\n1\n")
    with pytest.raises(InputError, match=r"several logs: .*a\.csv.*b\.csv"):
        read("many")


def test_the_history_object_of_keras() -> None:
    class History:
        history = HISTORY

    assert analyze(History(), per="epoch").root is not None  # type: ignore[arg-type]


def test_logs_longer_than_what_is_kept_are_read_as_often_as_needed() -> None:
    rows = [f"{i // 50},{i},{1 / (1 + i)},{1.0 if i % 50 == 49 else ''}" for i in range(20_000)]
    rows[7_777] = "155,7777,nan,"
    # Resumed from step 15000: what follows replaces what was there.
    rows[16_000:16_000] = [f"{i // 50},{i},5.0," for i in range(15_000, 15_010)]
    report = analyze(written("long.csv", "epoch,step,train_loss,val_loss\n" + "\n".join(rows)))
    assert report.root is not None
    assert (report.root.code, report.root.step, report.root.epoch) == ("loss.non_finite", 7_777, 155)
    assert said(report, "goes back")
    assert report.progress.epochs == 381, "those that were lost and not made again are not counted"
