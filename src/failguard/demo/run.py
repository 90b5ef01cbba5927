"""Runs the scenarios one after the other and shows what the guard made of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
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
    console.print(results_table(results))
    console.print()
    console.print("See every run in MLflow:", highlight=False)
    console.print(f"  mlflow ui --backend-store-uri {store}", soft_wrap=True, highlight=False, markup=False)
    return results


def results_table(results: Sequence[DemoResult]) -> Table:
    """One row a run: framework, status, root finding, likely cause, stopped at, steps saved, where the record is."""
    from rich.table import Table

    table = Table(title="failguard demo: handwritten digits", title_justify="left")
    for heading in ("run", "framework", "status", "root finding", "likely cause"):
        table.add_column(heading, overflow="fold")
    table.add_column("stopped at", justify="right", overflow="fold")
    table.add_column("steps saved", justify="right", overflow="fold")
    table.add_column("record", overflow="fold")
    for result in results:
        report = result.report
        stopped = any(a.what == "stop" for a in report.actions)
        saved = report.progress.steps_saved
        table.add_row(
            result.scenario.name,
            result.framework,
            str(report.status),
            "-" if report.root is None else report.root.code,
            report.diagnosis.likely_cause or "-",
            f"step {report.progress.steps - 1:,}" if stopped else "-",
            f"{saved:,} of {report.progress.planned_steps:,}" if stopped and saved is not None else "-",
            report.locations.get("local", "-"),
        )
    return table


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
    from failguard.demo.keras_run import train

    return train


def _train(
    load: Callable[[], Any], scenario: Scenario, digits: Digits, framework: str, folder: Path, store: str
) -> RunReport:
    from failguard.sinks.files import LocalRecord
    from failguard.sinks.mlflow import MlflowSink

    name = f"{scenario.name} ({framework})"
    sinks = [
        LocalRecord(folder / "failguard_runs"),
        MlflowSink(experiment="failguard demo", run_name=name, tracking_uri=store),
    ]
    keywords = {"sinks": sinks, "run_name": name, "experiment": "failguard demo", "hypothesis": scenario.hypothesis}
    report: RunReport = load()(scenario, scenario.data(digits), keywords)
    return report
