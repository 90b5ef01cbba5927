"""The demo finds what it stages, with the right root and the right cause, in both frameworks."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from failguard.core.finding import Status
from failguard.demo import DemoResult, run_demo
from failguard.demo.run import FRAMEWORKS
from failguard.demo.scenarios import SCENARIOS
from failguard.errors import FailGuardError

pytestmark = [pytest.mark.framework, pytest.mark.slow]

CAUSES = {
    "healthy": {None},
    "corrupted batch": {"corrupted_batch"},
    "learning rate far too high": {"learning_rate_too_high"},
    "shuffled labels": {"no_signal"},
    "overfitting": {"too_little_data_for_capacity", "too_little_regularization"},
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[DemoResult], str, Path]:
    folder = tmp_path_factory.mktemp("demo")
    output = io.StringIO()
    results = run_demo(directory=folder, console=Console(file=output, width=200))
    return results, output.getvalue(), folder


def result_of(demo: tuple[list[DemoResult], str, Path], framework: str, name: str) -> DemoResult:
    (result,) = (r for r in demo[0] if r.framework == framework and r.scenario.name == name)
    return result


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_each_training_is_diagnosed(demo: tuple[list[DemoResult], str, Path], framework: str, scenario) -> None:  # type: ignore[no-untyped-def]
    report = result_of(demo, framework, scenario.name).report
    assert (report.root.code if report.root else None) in (scenario.expected or (None,))
    assert report.diagnosis.likely_cause in CAUSES[scenario.name]
    assert report.status is (Status.STOPPED if scenario.expected else Status.COMPLETED)
    assert report.part_errors == []
    if not scenario.expected:
        assert report.findings == []
    else:
        assert report.progress.steps_saved is not None
        assert report.progress.steps_saved > 0
    assert (Path(report.locations["local"]) / "failure_analysis.json").is_file()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_corrupted_batch_is_named(demo: tuple[list[DemoResult], str, Path], framework: str) -> None:
    report = result_of(demo, framework, "corrupted batch").report
    found = next(f for f in report.findings if f.code in ("loss.non_finite", "gradient.non_finite"))
    assert (found.step, found.where.tensor, found.where.batch) == (20, "input", 20)
    assert found.where.rows
    if framework == "lightning":  # its data are in memory, so that it was seen before the first step
        assert report.root is not None
        assert (report.root.code, report.root.step, report.root.where.tensor) == ("data.non_finite", -1, "input")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_overfitting_ends_with_the_best_weights(demo: tuple[list[DemoResult], str, Path], framework: str) -> None:
    report = result_of(demo, framework, "overfitting").report
    assert "restore_best_weights" in [a.what for a in report.actions]
    assert report.best["epoch"] < report.progress.epochs - 1


def test_the_table_and_the_way_to_mlflow_are_shown(demo: tuple[list[DemoResult], str, Path]) -> None:
    _, output, folder = demo
    for scenario in SCENARIOS:
        assert output.count(scenario.name) >= 2 * 2
    for heading in ("status", "root finding", "likely cause", "stopped at", "steps saved", "record"):
        assert heading in output
    assert f"mlflow ui --backend-store-uri sqlite:///{folder.as_posix()}/mlflow.db" in output


def test_mlflow_has_every_run(demo: tuple[list[DemoResult], str, Path]) -> None:
    from mlflow import MlflowClient

    results, _, folder = demo
    client = MlflowClient(f"sqlite:///{folder.as_posix()}/mlflow.db")
    experiment = client.get_experiment_by_name("failguard demo")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == len(results)
    by_name = {r.info.run_name: r for r in runs}
    for result in results:
        run = by_name[f"{result.scenario.name} ({result.framework})"]
        assert run.data.tags["failguard.status"] == str(result.report.status)
        root = result.report.root
        assert run.data.tags.get("failguard.finding") == (root.code if root else None)
        assert "failure_analysis.json" in [a.path for a in client.list_artifacts(run.info.run_id)]


def test_an_unknown_framework_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(FailGuardError, match="lightning or keras"):
        run_demo(frameworks=["jax"], directory=tmp_path, console=Console(file=io.StringIO()))
