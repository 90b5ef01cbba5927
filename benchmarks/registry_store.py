"""A large MLflow store, made in seconds: MLflow makes the tables, the rows are put in directly.

MLflow's own calls would take minutes for 10,000 runs. What stands in the tables is what they would have written: a run
with its params, tags, last metrics and a history of each metric, as a watched run of about a minute leaves them.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

__all__ = ["make_store"]

EXPERIMENTS = ("churn", "segmentation", "ranking", "speech", "forecast")
HOUR_MS = 3_600_000
NEWEST_MS = 1_790_000_000_000
POINTS = 5  # of each metric's history
FAILURES = (
    ("loss.divergence", "learning_rate_too_high"),
    ("loss.non_finite", "mixed_precision_overflow"),
    ("metric.overfitting", "model_too_large"),
    ("resource.oom", "batch_too_large"),
)
METRICS = ("loss", "val_loss", "val_accuracy", "grad_norm", "learning_rate")


def make_store(path: Path, runs: int, seed: int = 0) -> str:
    """Make a sqlite store of MLflow's.

    Args:
        path: The database; it must not exist.
        runs: How many runs.
        seed: Of the values.

    Returns:
        Its address.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = f"sqlite:///{path}"
    store = SqlAlchemyStore(uri, str(path.parent / "mlruns"))
    for name in EXPERIMENTS:
        store.create_experiment(name)
    ids = [int(store.get_experiment_by_name(name).experiment_id) for name in EXPERIMENTS]
    store.engine.dispose()
    chance = random.Random(seed)
    with closing(sqlite3.connect(path)) as connection, connection:
        for number in range(runs):
            _put(connection, number, runs, ids, chance)
    return uri


def _put(connection: sqlite3.Connection, number: int, runs: int, ids: list[int], chance: random.Random) -> None:
    run_id = f"{chance.getrandbits(128):032x}"
    which = chance.randrange(len(ids))
    began_ms = NEWEST_MS - (runs - number) * HOUR_MS // 10
    ended_ms = began_ms + chance.randrange(20_000, 900_000)
    failure = chance.choice(FAILURES) if chance.random() < 0.25 else None
    config = {
        "lr": chance.choice((0.3, 0.1, 0.03, 0.01, 0.001)),
        "batch_size": chance.choice((32, 64, 128)),
        "optimizer": chance.choice(("sgd", "adam")),
        "width": chance.choice((64, 128, 256, 512)),
        "layers": chance.randrange(1, 8),
        "dropout": round(chance.random() / 2, 2),
        "weight_decay": chance.choice((0.0, 0.01)),
        "schedule": "cosine",
        "epochs": 20,
        "seed": number,
        "data.path": "/data/train",
        "data.workers": 4,
    }
    rows: dict[str, list[tuple[Any, ...]]] = {
        "params": [(key, str(value), run_id) for key, value in config.items()],
        "tags": [(key, value, run_id) for key, value in _tags(run_id, EXPERIMENTS[which], failure, config, number)],
        "latest_metrics": [(k, v, ended_ms, step, 0, run_id) for k, v, step in _metrics(failure, chance)],
    }
    rows["params"].append(("hypothesis", f"attempt {number} does better", run_id))
    rows["metrics"] = [
        (key, value * (1 + i / 10), began_ms + i, step * i // POINTS, 0, run_id)
        for key, value, _, step, _, _ in rows["latest_metrics"]
        if not key.startswith("failguard/run/")
        for i in range(POINTS)
    ]
    connection.execute(
        "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, "
        "end_time, source_version, lifecycle_stage, artifact_uri, experiment_id) "
        "VALUES (?, ?, 'UNKNOWN', '', '', ?, ?, ?, ?, '', 'active', ?, ?)",
        (run_id, f"run-{number}", "ada", "FINISHED", began_ms, ended_ms, f"mlruns/{run_id}", ids[which]),
    )
    connection.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", rows["params"])
    connection.executemany("INSERT INTO tags (key, value, run_uuid) VALUES (?, ?, ?)", rows["tags"])
    for table, columns in (("latest_metrics", ""), ("metrics", "")):
        connection.executemany(
            f"INSERT INTO {table} (key, value, timestamp, step, is_nan, run_uuid) VALUES (?, ?, ?, ?, ?, ?){columns}",
            rows[table],
        )


def _tags(
    run_id: str, experiment: str, failure: tuple[str, str] | None, config: dict[str, Any], number: int
) -> Iterator[tuple[str, str]]:
    yield "mlflow.user", ("ada", "grace", "alan")[number % 3]
    yield "mlflow.runName", f"run-{number}"
    yield "mlflow.source.name", "train.py"
    yield "mlflow.source.type", "LOCAL"
    yield "mlflow.source.git.commit", run_id + "01234567"
    yield "failguard.status", "failed" if failure else "completed"
    yield "failguard.outcome", "failure" if failure else "success"
    yield "failguard.record", f"20260101-000000-{number:06d}"
    yield "failguard.framework", "lightning 2.6.6"
    yield "failguard.version", "0.1.0"
    yield "failguard.line", f"{experiment}-{number // 40}"
    yield "failguard.config", json.dumps(config)
    yield "failguard.setup", json.dumps({"model": "Net", "parameters": 123_456, "optimizer": "SGD"})
    yield "mlflow.note.content", f"**failguard: {'failed' if failure else 'completed'}**\n\n" + "What was found. " * 20
    if failure:
        yield "failguard.finding", failure[0]
        yield "failguard.findings", failure[0]
        yield "failguard.cause", failure[1]
        yield "failguard.fingerprint", f"{hash_of(failure[0]):016x}"


def hash_of(text: str) -> int:
    """A stable number of a text."""
    return int.from_bytes(text.encode()[:8], "big")


def _metrics(failure: tuple[str, str] | None, chance: random.Random) -> Iterator[tuple[str, float, int]]:
    for name in METRICS:
        yield name, chance.random(), 1_000
        yield f"failguard/{name}", chance.random(), 1_000
    for name in ("used_h", "wasted_h", "saved_h", "steps", "planned_steps"):
        yield f"failguard/run/{name}", chance.random() * 100, 1_000
    if failure:
        yield "failguard/run/detected_after_s", chance.random() * 100, 1_000
    for name in ("rss_bytes", "cpu_percent", "gpu_memory_used_bytes", "gpu_utilization_percent"):
        yield f"system/{name}", chance.random() * 100, 1_000
