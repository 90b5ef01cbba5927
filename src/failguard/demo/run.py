"""Runs the scenarios one after the other and shows what the guard made of them."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from failguard.demo.scenarios import SCENARIOS, Digits, Scenario, load_digits
from failguard.errors import FailGuardError
from failguard.report.run_report import RunReport

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["FRAMEWORKS", "DemoResult", "run_demo"]

FRAMEWORKS = ("lightning", "keras")
RECORDS = "failguard_runs"
WIDE = 140  # columns from which each figure gets a column of its own
INSTALL = "pip install 'failguard-ml[lightning,keras,data]'"


@dataclass(frozen=True)
class DemoResult:
    """One finished training of the demo."""

    scenario: Scenario
    framework: str
    report: RunReport


def run_demo(
    frameworks: Sequence[str] = FRAMEWORKS,
    directory: str | os.PathLike[str] = "failguard_demo",
    console: Console | None = None,
    scenarios: Sequence[Scenario] = SCENARIOS,
) -> list[DemoResult]:
    """Train, fail, diagnose: a first look at failguard.

    Args:
        frameworks: ``"lightning"``, ``"keras"`` or both. One that is not installed is left out and named.
        directory: Where the local records and an MLflow store of the demo's own go.
        console: Where to print; standard output by default.
        scenarios: What to train.

    Returns:
        One result a training, in the order they ran.

    Raises:
        FailGuardError: scikit-learn or every framework is missing.
    """
    from rich.console import Console

    console = console or Console()
    trainers = _trainers(frameworks, console)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    store = f"sqlite:///{(folder / 'mlflow.db').as_posix()}"
    for name in ("mlflow.store.db.utils", "alembic.runtime.migration"):  # they announce every new database
        logging.getLogger(name).setLevel(logging.WARNING)
    digits = load_digits()
    results = []
    plan = [(name, train, scenario) for name, train in trainers for scenario in scenarios]
    with console.status("") as status:
        for number, (framework, load, scenario) in enumerate(plan, start=1):
            status.update(f"{number}/{len(plan)} {framework}: {scenario.name}")
            report = _train(load, scenario, digits, framework, folder, store)
            results.append(DemoResult(scenario, framework, report))
            console.print(
                f"{number:>2}/{len(plan)} {framework:<9} {scenario.name:<26} {_outcome(report)}", highlight=False
            )
    console.print()
    console.print(results_table(results, console.width))
    records = (folder / RECORDS).as_posix()
    console.print(
        f"Records are under {records}. One of them: failguard report RECORD --record-dir {records}", highlight=False
    )
    console.print(f"Every run in MLflow: mlflow ui --backend-store-uri {store}", soft_wrap=True, highlight=False)
    return results


def results_table(results: Sequence[DemoResult], width: int) -> Table:
    """One row a run: framework, status, root finding, likely cause, stopped at, steps saved, record.

    Args:
        results: The finished trainings.
        width: Columns of the terminal. Below 140, what belongs together stands in one cell.
    """
    from rich import box
    from rich.table import Table

    headings: tuple[str, ...] = (
        "run",
        "framework",
        "status",
        "root finding",
        "likely cause",
        "stopped at",
        "steps saved",
        "record",
    )
    rows = [_cells(result) for result in results]
    if width < WIDE:
        headings = ("run,\nframework", "status,\nstopped at,\nsteps saved", "root finding,\nlikely cause", "record")
        rows = [
            (
                f"{run}\n{framework}",
                f"{status}\n{stopped}\n{saved}",
                f"{finding}\n{cause}",
                record.replace("-", "-\n", 1),
            )
            for run, framework, status, finding, cause, stopped, saved, record in rows
        ]
    table = Table(box=box.SIMPLE_HEAD if width < WIDE else box.ROUNDED, show_lines=width < WIDE)
    for heading in headings:
        whole = any(word in heading for word in ("finding", "cause", "record"))  # codes and names are copied from here
        table.add_column(heading, overflow="fold", no_wrap=whole)
    for row in rows:
        table.add_row(*row)
    return table


def _cells(result: DemoResult) -> tuple[str, ...]:
    report = result.report
    stopped = any(a.what == "stop" for a in report.actions)
    saved = report.progress.steps_saved
    return (
        result.scenario.name,
        result.framework,
        str(report.status),
        "-" if report.root is None else report.root.code,
        report.diagnosis.likely_cause or "-",
        f"step {report.progress.steps - 1:,}" if stopped else "-",
        f"{saved:,} of {report.progress.planned_steps:,}" if stopped and saved is not None else "-",
        report.run.record_id,
    )


def _outcome(report: RunReport) -> str:
    if report.root is None:
        return str(report.status)
    return f"{report.status}: {report.root.code}"


def _trainers(frameworks: Sequence[str], console: Console) -> list[tuple[str, Callable[[], Any]]]:
    """The frameworks asked for that are installed, each with what imports its trainer."""
    unknown = [f for f in frameworks if f not in FRAMEWORKS]
    if unknown:
        raise FailGuardError(f"The demo knows no framework {unknown[0]!r}: use {' or '.join(FRAMEWORKS)}.")
    if find_spec("sklearn") is None:
        raise FailGuardError(f"The demo trains on scikit-learn's digits, and scikit-learn is not installed: {INSTALL}")
    found: list[tuple[str, Callable[[], Any]]] = []
    if "lightning" in frameworks and (find_spec("lightning") or find_spec("pytorch_lightning")):
        found.append(("lightning", _lightning))
    if "keras" in frameworks and find_spec("keras"):
        found.append(("keras", _keras))
    for name in frameworks:
        if name not in [f for f, _ in found]:
            console.print(f"{name} is not installed and left out: {INSTALL}", highlight=False, markup=False)
    if not found:
        raise FailGuardError(f"The demo needs Lightning or Keras: {INSTALL}")
    return found


def _lightning() -> Any:
    from failguard.demo.lightning_run import train

    return train


def _keras() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _quiet_start():
        from failguard.demo.keras_run import train

    return train


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Nothing on standard error: TensorFlow's start-up notes come from C++ and know no level."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _train(
    load: Callable[[], Any], scenario: Scenario, digits: Digits, framework: str, folder: Path, store: str
) -> RunReport:
    from failguard.sinks.files import LocalRecord
    from failguard.sinks.mlflow import MlflowSink

    name = f"{scenario.name} ({framework})"
    sinks = [
        LocalRecord(folder / RECORDS),
        MlflowSink(experiment="failguard demo", run_name=name, tracking_uri=store),
    ]
    keywords: dict[str, Any] = {
        "sinks": sinks,
        "run_name": name,
        "experiment": "failguard demo",
        "hypothesis": scenario.hypothesis,
        "memory": False,  # it fails on purpose, as often as it is run
    }
    report: RunReport = load()(scenario, scenario.data(digits), keywords)
    return report
