"""Six weeks of a team, simulated: 60 real short runs, some failing, some failing again, some learning from it.

python examples/team_history.py

Every run is a real loop with a real guard; only the calendar is simulated. The runs are made in the MLflow store with
start times of their own, and a training step stands for a minute. Ends with what `failguard learn` and
`failguard postmortem` make of it.
"""

import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from failguard import Status
from failguard.cli import main as failguard
from failguard.report.analysis import failure_analysis
from failguard.report.run_report import Compute, RunReport
from failguard.runs import Registry
from failguard.sinks import mlflow_values as values
from failguard.torch import FailGuard

STORE = "sqlite:///team_history.db"
FIRST_MONDAY = datetime(2026, 1, 5, 9, tzinfo=UTC)
STEPS = 60  # an hour
BASE = {"lr": 0.03, "width": 16, "batch_size": 32, "optimizer": "sgd", "data": "clean"}


@dataclass
class Attempt:
    """One run: who, which line of work, what of the configuration is different, what goes wrong, what was learned."""

    member: str
    line: str
    config: dict[str, Any] = field(default_factory=dict)
    fault: str = ""  # "", "bad rows", "memory", "typo", "ctrl-c", or "unwatched"
    lesson: str = ""
    next_step: str = ""


def a(*what: Any, **config: Any) -> Attempt:
    more = {name: config.pop(name) for name in ("fault", "lesson", "next_step") if name in config}
    return Attempt(*what, config, **more)


ADA, BOB, CLEO = "ada", "bob", "cleo"
# Three runs a day from Monday on, at 9, 12 and 15 o'clock.
WEEKS = [
    [
        a(ADA, "scorer", lr=1.0, lesson="lr=1.0 diverges at once: lr=0.03"),
        a(BOB, "ranker", data="sample"),
        a(CLEO, "retriever"),
        a(ADA, "scorer", lr=0.03),
        a(BOB, "ranker", data="raw", fault="bad rows", lesson="The raw export has empty cells, data=clean has none"),
        a(CLEO, "retriever", batch_size=2**20, fault="memory", lesson="never batch_size>=65536"),
        a(ADA, "scorer", width=64),
        a(BOB, "ranker", data="clean"),
    ],
    [
        a(CLEO, "retriever", batch_size=256),
        a(BOB, "ranker", lr=1.0),
        a(BOB, "ranker", lr=0.005),
        a(ADA, "scorer", width=256),
        a(ADA, "scorer", width=256, lr=0.005),
        a(CLEO, "retriever", width=64, batch_size=256, fault="typo", lesson="Run one batch before the long run"),
        a(CLEO, "retriever", width=64, batch_size=256),
        a(BOB, "ranker", data="raw", fault="bad rows"),
        a(BOB, "ranker", data="clean"),
        a(ADA, "scorer", optimizer="adam", lr=0.005, next_step="optimizer=lion"),
        a(CLEO, "retriever", batch_size=2048),
        a(BOB, "ranker", width=64, lr=0.005),
    ],
    [
        a(ADA, "scorer", lr=3.0, lesson="never lr>=1.0"),
        a(ADA, "scorer", width=1024),
        a(CLEO, "retriever", batch_size=8),
        a(BOB, "retriever", batch_size=2**20, fault="memory"),
        a(BOB, "retriever"),
        a(BOB, "ranker", width=1024, lr=0.005),
        a(BOB, "ranker", optimizer="adam", lr=0.0005, fault="ctrl-c"),
        a(ADA, "scorer", data="sample", width=64),
        a(CLEO, "retriever", data="sample", batch_size=256),
    ],
    [
        a(BOB, "scorer", data="sample", batch_size=256, width=64, fault="typo"),
        a(BOB, "scorer", data="sample", batch_size=256, width=64),
        a(ADA, "scorer", optimizer="adam", lr=0.005, width=64),
        a(ADA, "scorer", optimizer="adam", lr=0.005, width=256),
        a(CLEO, "retriever", data="raw", fault="bad rows", lesson="data=clean, whatever the hurry"),
        a(CLEO, "retriever", data="clean"),
        a(BOB, "ranker", optimizer="adam", lr=0.005),
        a(BOB, "ranker", optimizer="adam", lr=0.005, batch_size=256),
        a(BOB, "ranker", fault="unwatched", width=4096),
        a(ADA, "scorer", optimizer="adam", lr=0.005, width=1024),
        a(CLEO, "retriever", optimizer="adam", lr=0.005, batch_size=8),
    ],
    [
        a(ADA, "scorer", optimizer="adam", lr=0.005, data="raw", fault="bad rows", next_step="data=clean"),
        a(ADA, "scorer", optimizer="adam", lr=0.005, data="clean"),
        a(BOB, "ranker", batch_size=2048),
        a(BOB, "ranker", batch_size=2048, lr=0.005),
        a(CLEO, "retriever", batch_size=2048, width=64),
        a(CLEO, "retriever", batch_size=2048, width=256),
        a(ADA, "scorer", batch_size=2048, width=1024),
        a(BOB, "ranker", optimizer="adam", lr=0.005, batch_size=2048),
        a(CLEO, "retriever", fault="unwatched", width=4096),
        a(ADA, "scorer", optimizer="adam", lr=0.005, width=256),
    ],
    [
        a(ADA, "scorer", optimizer="adam", lr=0.005, width=1024),
        a(BOB, "ranker", lr=3.0),
        a(BOB, "ranker", lr=0.03),
        a(CLEO, "retriever", batch_size=8, width=64),
        a(CLEO, "retriever", batch_size=8, width=256),
        a(ADA, "scorer", batch_size=8, width=1024),
        a(BOB, "ranker", optimizer="adam", lr=0.005, width=64),
        a(ADA, "scorer", optimizer="adam", lr=0.005, width=64),
        a(CLEO, "retriever", batch_size=256),
        a(BOB, "ranker", data="raw", fault="bad rows"),
    ],
]  # fmt: skip


class SimulatedClock:
    """A sink: writes what the registry reads of a run, with a minute for each step.

    FailGuard's own MLflow sink writes the same tags and metrics, and curves and pages beside them.
    """

    name = "simulated"
    background = False

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client, self.run_id = client, run_id

    def start(self, report: RunReport) -> None: ...

    def progress(self, report: RunReport) -> None: ...

    def finish(self, report: RunReport) -> None:
        steps, used, wasted = report.progress.steps, report.compute.used_h, report.compute.wasted_h
        hours = Compute(
            used_h=steps / 60,
            wasted_h=None if wasted is None or not used else round(wasted / used * steps) / 60,
            saved_h=(STEPS - steps) / 60 if report.status is Status.STOPPED else None,
        )
        seen = {f.code: 60.0 * (f.step + 1) for f in report.findings}
        progress = replace(report.progress, planned_steps=STEPS)  # the plan of a loop is not to be seen from inside
        report = replace(report, compute=hours, seen_after_s=seen, progress=progress)
        self.client.log_batch(
            self.run_id,
            metrics=[Metric(name, value, 0, step) for name, value, step in values.summary_rows(report)],
            tags=[RunTag(name, value) for name, value in values.tags(report).items()],
        )
        self.client.log_dict(self.run_id, failure_analysis(report), "failure_analysis.json")


def train(guard_sink: SimulatedClock, attempt: Attempt) -> None:
    config = {**BASE, **attempt.config}
    torch.manual_seed(0)
    x = torch.randn(512, 8)
    y = x.sum(1, keepdim=True) + 0.1 * torch.randn(512, 1)
    if attempt.fault == "bad rows":
        x[300] = float("nan")
    model = torch.nn.Sequential(
        torch.nn.Linear(8, config["width"]), torch.nn.ReLU(), torch.nn.Linear(config["width"], 1)
    )
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[config["optimizer"]]
    optimizer = kind(model.parameters(), lr=config["lr"])
    guard = FailGuard(model, optimizer, config=config, line=attempt.line, sinks=[guard_sink], resources=False)
    with guard:
        if attempt.fault == "memory":
            np.empty((config["batch_size"], config["batch_size"], 1024))  # all pairs at once
        for step in range(STEPS):
            rows = torch.arange(32 * step, 32 * (step + 1)) % len(x)
            if attempt.fault == "typo":
                config["bath_size"]
            if attempt.fault == "ctrl-c" and step == STEPS // 2:
                raise KeyboardInterrupt
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x[rows]), y[rows])
            loss.backward()
            if guard.step(loss=loss, batch=(x[rows], y[rows])):
                optimizer.step()
            if guard.should_stop:
                break


def live(client: MlflowClient, registry: Registry) -> None:
    """Make all runs, week by week."""
    experiment = client.create_experiment("shop")
    for week, attempts in enumerate(WEEKS):
        for i, attempt in enumerate(attempts):
            start = FIRST_MONDAY + timedelta(weeks=week, days=i // 3, hours=3 * (i % 3))
            start_ms = int(start.timestamp() * 1000)
            name = f"{attempt.line} " + (", ".join(f"{k}={v}" for k, v in attempt.config.items()) or "base")
            tags = {"mlflow.user": "ci", "failguard.tag.member": attempt.member}
            run_id = client.create_run(experiment, start_time=start_ms, run_name=name, tags=tags).info.run_id
            status, steps = "FINISHED", STEPS
            if attempt.fault == "unwatched":
                params = {**BASE, **attempt.config}
                client.log_batch(run_id, params=[Param(k, str(v)) for k, v in params.items()])
                client.set_tag(run_id, "failguard.line", attempt.line)
            else:
                try:
                    train(SimulatedClock(client, run_id), attempt)
                except (KeyError, MemoryError):
                    status = "FAILED"
                except KeyboardInterrupt:
                    status = "KILLED"
                steps = int(client.get_run(run_id).data.metrics["failguard/run/steps"])
            client.set_terminated(run_id, status, end_time=start_ms + 60_000 * steps)
            for kind, text in (("lesson", attempt.lesson), ("next_step", attempt.next_step)):
                if text:
                    registry.add_note(run_id, kind, text, author=attempt.member)


def main() -> None:
    torch.set_num_threads(1)
    Path("team_history.db").unlink(missing_ok=True)
    registry = Registry(STORE)
    live(MlflowClient(STORE), registry)
    until = (FIRST_MONDAY + timedelta(weeks=len(WEEKS))).isoformat()
    repeated = registry.list(fingerprint=registry.list(line="ranker", outcome="failure")[0].fingerprint)[0]
    for words in (
        ["learn", "shop", "--until", until],
        ["learn", "shop", "--digest", "week", "--until", until, "-o", "digest.html"],
        ["postmortem", repeated.run_id],
    ):
        print(f"\n$ failguard {' '.join(words)}\n", flush=True)
        sys.argv = ["failguard", *words, "--store", STORE]
        try:
            failguard()
        except SystemExit as ending:
            if ending.code:
                raise


if __name__ == "__main__":
    main()
