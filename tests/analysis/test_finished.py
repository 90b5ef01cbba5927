from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from failguard.analysis import analyze
from failguard.core.event import Event
from failguard.core.finding import Finding, Severity, Status
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.errors import ConfigurationError, InputError
from failguard.report.run_report import RunReport

HEALTHY = {"train_loss": [1.0, 0.6, 0.4, 0.3, 0.25], "val_loss": [1.1, 0.8, 0.6, 0.5, 0.45]}


@dataclass
class Watcher:
    """A detector that keeps what it was shown."""

    code: ClassVar[str] = "loss.plateau"
    TRIPS: ClassVar[Sequence[Any]] = ()
    QUIET: ClassVar[Sequence[Any]] = ()

    def __post_init__(self) -> None:
        self.seen: list[Observation] = []
        self.histories: list[History] = []

    def check(self, observation: Observation, history: History) -> Finding | None:
        self.seen.append(observation)
        self.histories.append(history)
        return None

    def of(self, event: Event) -> list[Observation]:
        return [o for o in self.seen if o.event is event]


def codes(report: RunReport) -> list[str]:
    return [f.code for f in report.findings]


def test_a_healthy_run() -> None:
    report = analyze(HEALTHY, per="epoch")
    assert report.status is Status.COMPLETED
    assert report.findings == []
    assert report.root is None
    assert report.best == {"monitor": "val_loss", "mode": "min", "value": 0.45, "epoch": 4, "step": 4}
    assert report.progress.epochs == 5
    assert report.run.framework == "log"
    assert report.environment == {}
    assert report.resources == {}
    assert report.compute.used_h == 0.0
    assert not list(Path().iterdir()), "nothing is written"


def test_per_epoch_nan() -> None:
    report = analyze(
        {"train_loss": [1.0, 0.5, math.nan, math.nan], "val_loss": [1.0, 0.6, math.nan, math.nan]}, per="epoch"
    )
    assert report.status is Status.FAILED
    assert report.root is not None
    assert (report.root.code, report.root.epoch) == ("loss.non_finite", 2)
    assert codes(report).count("loss.non_finite") == 1


def test_per_step_nan_is_found_at_its_step() -> None:
    losses = [1.0 / (1 + i) for i in range(100)]
    losses[37] = math.inf
    report = analyze({"loss": losses}, per="step")
    assert report.root is not None
    assert (report.root.code, report.root.step) == ("loss.non_finite", 37)
    assert report.status is Status.COMPLETED, "the run went on"


def test_overfitting_and_its_best_epoch() -> None:
    epochs = 40
    train = [0.9**i for i in range(epochs)]
    val = [0.5 + 0.02 * abs(i - 10) for i in range(epochs)]
    report = analyze({"train_loss": train, "val_loss": val}, per="epoch")
    assert "metric.overfitting" in codes(report)
    assert report.best["epoch"] == 10


def test_divergence_with_a_high_learning_rate() -> None:
    losses = [2.3 * 1.5**i for i in range(60)]
    report = analyze({"loss": losses}, per="step", config={"lr": 50.0, "optimizer": "SGD"})
    assert report.root is not None
    assert report.root.code == "loss.divergence"
    assert report.diagnosis.likely_cause == "learning_rate_too_high"
    assert report.facts.optimizer.learning_rate == 50.0


def test_a_gradient_column_is_watched() -> None:
    report = analyze({"step": [0, 1, 2], "loss": [1.0, 0.9, 0.8], "grad_norm": [1.0, math.nan, 1.0]})
    assert "gradient.non_finite" in codes(report)


def test_mode_max_and_ignore() -> None:
    report = analyze({"loss": [1, 0.5], "val_acc": [0.5, 0.9]}, per="epoch", monitor="val_acc", mode="max")
    assert report.best["value"] == 0.9
    report = analyze({"loss": [1, math.nan]}, per="epoch", ignore=["loss.non_finite"])
    assert "loss.non_finite" not in codes(report)


def test_detectors_see_what_the_guard_would_show() -> None:
    watcher = Watcher()
    columns: Mapping[str, Any] = {
        "epoch": [0, 0, 0, 1, 1, 1],
        "step": [0, 1, 1, 2, 3, 3],
        "train_loss": [4.0, 2.0, None, 1.0, 0.5, None],
        "val_loss": [None, None, 3.0, None, None, 2.0],
    }
    analyze(columns, detectors=[watcher])
    assert watcher.seen[0].event is Event.RUN_START
    assert watcher.seen[-1].event is Event.RUN_END
    first, second = watcher.of(Event.EPOCH_END)
    assert (first.epoch, first.step, first.validated) == (0, 1, True)
    assert dict(second.values) == {"train_loss": 0.75, "val_loss": 2.0}
    history = watcher.histories[-1]
    assert history.steps["loss"].values.tolist() == [4.0, 2.0, 1.0, 0.5]
    assert history.epochs["train_loss"].values.tolist() == [3.0, 0.75]


def test_a_log_per_epoch_has_no_step_series() -> None:
    watcher = Watcher()
    analyze(HEALTHY, per="epoch", detectors=[watcher])
    assert "loss" not in watcher.histories[-1].steps


@pytest.mark.usefixtures("contained")
def test_a_detector_that_raises_is_named() -> None:
    class Broken(Watcher):
        def check(self, observation: Observation, history: History) -> Finding | None:
            raise RuntimeError("broken detector")

    report = analyze(HEALTHY, per="epoch", detectors=[Broken()])
    assert report.part_errors[0].part == "detector loss.plateau"
    assert "broken detector" in report.part_errors[0].message


def test_a_million_rows_are_looked_at_in_bounded_time() -> None:
    watcher = Watcher()
    rng = np.random.default_rng(0)
    n = 1_000_000
    losses = np.exp(-np.arange(n) / 1e5) + rng.normal(0, 0.01, n)
    losses[1::3] = np.nan  # bad values must not make it look at each of them
    report = analyze({"loss": losses}, per="step", detectors=[watcher])
    assert len(watcher.of(Event.STEP)) < 8_000
    assert report.progress.steps == n
    assert len(report.history) <= 2_000


def test_many_epochs_are_looked_at_in_bounded_time() -> None:
    watcher = Watcher()
    n = 50_000
    report = analyze({"loss": [1.0] * n, "val_loss": [math.nan] * n}, per="epoch", detectors=[watcher])
    assert len(watcher.of(Event.EPOCH_END)) < 8_000
    assert report.progress.epochs == n


def test_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss,val_loss\n0,1,1\n1,0.5,0.6\n2,nan,nan\n")
    for source in (path, str(path)):
        report = analyze(source)
        assert report.root is not None
        assert report.root.code == "loss.non_finite"
        assert any("training loss per epoch from 'loss'" in note for note in report.notes)


class DataFrame:
    columns = ("loss",)

    def to_dict(self, kind: str) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("run.jsonl", r"'run.jsonl' does not exist"),
        ("run.txt", r"no file 'run.txt'.* MLflow run"),
        ("0123456789abcdef0123456789abcdef", "no run '0123456789abcdef"),
        ("a\0b.csv", "null byte"),
        ("", "cannot be analysed"),
        (None, "cannot be analysed"),
        (3, "cannot be analysed"),
        ([1.0, 0.5], "cannot be analysed"),
        (DataFrame(), r"to_dict\('list'\)"),
        ({"train_loss": ["a"]}, "is text"),
        ({"train_loss": 3.0}, "Hand in a list"),
    ],
)
def test_sources_that_cannot_be_read_are_named(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        analyze(source)


@pytest.mark.parametrize(
    ("keywords", "name"),
    [
        ({"per": "batch"}, "per"),
        ({"mode": "auto"}, "mode"),
        ({"min_delta": -1}, "min_delta"),
        ({"detectors": "all"}, "detectors"),
        ({"ignore": ["loss.foo"]}, "loss.foo"),
        ({"config": [1]}, "config"),
        ({"monitor": ""}, "monitor"),
    ],
)
def test_wrong_keywords_are_named_before_anything_is_read(keywords: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        analyze("does_not_exist.csv", **keywords)


def test_secrets_of_the_configuration_are_redacted() -> None:
    report = analyze(HEALTHY, per="epoch", config={"api_key": "hunter2hunter2", "lr": 0.1})
    assert "hunter2" not in str(report.to_dict())


def test_the_report_survives_the_round_trip() -> None:
    report = analyze({"loss": [1.0, math.nan]}, per="epoch")
    again = RunReport.from_dict(report.to_dict())
    assert again.findings == report.findings
    assert again.status is report.status


def test_severity_is_ordered_for_the_root() -> None:
    report = analyze({"loss": [1.0, math.nan], "val_loss": [1.0, math.nan]}, per="epoch")
    assert report.root is not None
    assert report.root.severity is Severity.ERROR


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "import failguard; failguard.analyze({'loss': [1, 2]})",
        "import failguard; failguard.FailureDetector; failguard.analyze({'loss': [1, 2]})",
        "import failguard.analysis; failguard.analyze({'loss': [1, 2]})",
        "from failguard.analysis import analyze; import failguard; failguard.analyze({'loss': [1, 2]})",
        "from failguard import analyze; analyze({'loss': [1, 2]})",
    ],
)
def test_the_name_is_the_function_however_it_was_imported(code: str) -> None:
    heavy = "import sys; assert not {'torch', 'mlflow', 'tensorflow', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{code}\n{heavy}"], check=True, timeout=60)


@pytest.mark.parametrize("name", ["lr", "learning_rate", "lr-SGD", "train/lr", "train/learning_rate"])
@pytest.mark.parametrize("per", ["epoch", "step"])
def test_a_logged_learning_rate_is_kept(name: str, per: str) -> None:
    loss = [2.3 - 0.08 * i for i in range(10)] + [1.49 + 0.004 * (-1) ** i for i in range(50)]
    rates = [0.1 * 0.65**i for i in range(60)]
    log: dict[str, Any] = {"epoch": list(range(60)), "train_loss": loss, "val_loss": [x + 0.05 for x in loss]}
    log[name] = rates
    if per == "step":
        log = {key: [v for v in values for _ in range(8)] for key, values in log.items()}
        log["val_loss"] = [v if i % 8 == 7 else None for i, v in enumerate(log["val_loss"])]
    report = analyze(log, per=per)
    assert [f.code for f in report.findings] == ["loss.plateau"]
    assert report.diagnosis.likely_cause == "learning_rate_too_low"


def test_steps_that_only_count_epochs_are_no_updates() -> None:
    watcher = Watcher()
    analyze(HEALTHY, detectors=[watcher])
    assert {o.optimizer_step for o in watcher.seen} == {0}
    watcher = Watcher()
    analyze(
        {"step": [100, 200, 300], "epoch": [0, 1, 2], **{n: v[:3] for n, v in HEALTHY.items()}}, detectors=[watcher]
    )
    assert watcher.of(Event.EPOCH_END)[-1].optimizer_step == 301


def test_validations_that_are_counted_as_epochs_are_named_by_their_step() -> None:
    losses = [1.0 - 0.008 * i for i in range(100)]
    validation = [0.5 + abs(i - 29) / 100 if i % 10 == 9 else None for i in range(100)]
    report = analyze({"step": range(0, 1000, 10), "loss": losses, "eval_loss": validation}, per="step")
    assert any("The best val_loss, 0.5, is number 2, at step 290." in note for note in report.notes)


def test_a_fine_tuning_of_five_validations_that_overfits() -> None:
    steps = range(50, 5050, 50)
    losses = [0.3 * 0.93**i for i in range(100)]
    validation = [{19: 0.31, 39: 0.36, 59: 0.42, 79: 0.45, 99: 0.47}.get(i) for i in range(100)]
    report = analyze({"step": steps, "loss": losses, "eval_loss": validation}, per="step")
    assert [(f.code, f.severity) for f in report.findings] == [("metric.overfitting", Severity.WARNING)]


def test_a_log_at_the_chance_of_two_classes() -> None:
    losses = [0.712, 0.698, *[0.6932, 0.6931, 0.6933] * 6]
    report = analyze({"epoch": range(20), "loss": losses, "val_loss": [0.6935, *[0.6932] * 19]})
    (finding,) = report.findings
    assert finding.code == "loss.no_learning"
    assert "guessing between 2 classes has a loss of 0.6931" in finding.message


def test_good_weights_trained_further_rise_in_the_warm_up_and_come_back() -> None:
    shape = [
        0.048,
        0.052,
        0.058,
        0.06,
        0.062,
        0.063,
        0.0625,
        0.0615,
        0.062,
        0.061,
        *(0.061 - 0.0006 * i for i in range(40)),
    ]
    report = analyze({"epoch": range(50), "loss": shape, "val_loss": [0.9 * x for x in shape]})
    assert report.findings == []


def test_a_log_in_which_every_step_has_the_same_loss() -> None:
    (finding,) = analyze({"step": range(100), "train_loss_batch": [16.7422] * 100}).findings
    assert finding.code == "loss.no_learning"
    assert "All 100 training losses are 16.7422" in finding.message
    assert analyze({"step": range(100), "train_loss_batch": [0.0] * 100}).findings == []


@pytest.mark.parametrize(("accuracy", "severity"), [(0.004, Severity.WARNING), (-0.004, Severity.ERROR)])
def test_overfitting_is_no_error_while_a_score_improves(accuracy: float, severity: Severity) -> None:
    report = analyze(
        {
            "epoch": range(40),
            "loss": [0.9**i for i in range(40)],
            "val_loss": [0.8, 0.6, 0.5, 0.45, *(0.45 + 0.05 * i for i in range(1, 37))],
            "val_accuracy": [0.7 + accuracy * i for i in range(40)],
        }
    )
    (finding,) = report.findings
    assert finding.code == "metric.overfitting"
    assert finding.severity is severity
