"""Reports of realistic runs, made by hand."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from failguard.core.containment import PartError
from failguard.core.facts import Facts, ModelFacts, OptimizerFacts
from failguard.core.finding import Finding, Severity, Status, Where
from failguard.core.history import History
from failguard.core.improvement import Improvement
from failguard.core.observation import ExceptionFacts
from failguard.core.run_info import RunInfo
from failguard.diagnosis import diagnose, fingerprint
from failguard.report.run_report import ActionTaken, Compute, Overhead, Progress, RunReport

RECORD = "20250101-120000-lightning-a1b2c3"


def _facts() -> Facts:
    return Facts(
        framework="lightning",
        versions={"torch": "2.13.0"},
        config={"lr": 8.0, "max_norm": math.inf, "trainer": {"precision": "32-true"}},
        optimizer=OptimizerFacts("SGD", 8.0, 0.9, 0.0),
        model=ModelFacts("DigitsNet", 8970, 8970, 3, activations=("ReLU",), output_width=10),
        loss_name="cross_entropy",
        batch_size=32,
        train_samples=1437,
        steps_per_epoch=45,
        max_epochs=20,
        target_kind="classes",
        class_counts={0: 140, 1: 141},
        trivial_loss=2.3,
        device="cpu",
    )


@pytest.fixture
def failing() -> RunReport:
    """Stopped: the rate is far too high."""
    facts = _facts()
    history = History(facts=facts, improvement=Improvement())
    noise = random.Random(0)
    losses = [2.3 + noise.gauss(0, 0.05) for _ in range(12)] + [2.3 * 1.35**i for i in range(40)] + [math.nan]
    for step, loss in enumerate(losses):
        history.step_series("loss").append(step, loss)
    for step in range(0, 50, 5):
        history.step_series("gradient_norm").append(step, 1.2 * 1.4**step)
    root = Finding(
        "loss.divergence",
        Severity.ERROR,
        40,
        0,
        "The loss rose from 2.27 to 3.1e4.",
        Where(tensor="loss", batch=40),
        {"ratio": 1e4, "last_loss": math.nan},
    )
    later = Finding("loss.non_finite", Severity.ERROR, 52, 1, "The loss is nan.", Where("fc2", "output", 52))
    diagnosis = diagnose([root, later], root, history, None)
    return RunReport(
        RunInfo(RECORD, "2025-01-01T12:00:00+00:00", "lightning", "digits", "too fast", config=facts.config),
        Status.STOPPED,
        [root, later],
        root,
        diagnosis,
        [ActionTaken("stop", 52, 1, "loss.divergence at error stops the run.")],
        Progress(53, 52, 1, 900, 1.4),
        Compute(1.4 / 3600, 1.3 / 3600, 22 / 3600),
        Overhead(0.012, 0.0086, {"end_batch": 0.008}, {"gradients": 10}, 4096),
        {"process_rss_bytes": {"min": 4e8, "mean": 4.2e8, "peak": 4.4e8}, "gpus": [{"index": 0, "name": "X"}]},
        facts,
        None,
        {"failguard": "0.1.0", "python": "3.11.2", "packages": {"torch": "2.13.0"}},
        fingerprint(root, diagnosis, None, facts),
        [{"run_id": "abc", "cause": "learning_rate_too_high"}],
        {"monitor": "val_loss", "mode": "min", "value": 54.0, "epoch": 0, "step": 44},
        [PartError("sink mlflow", "ConnectionError: no answer")],
        ["The metric val_acc was not logged."],
        list(history.rows()),
        {"local": f"failguard_runs/{RECORD}", "mlflow": "sqlite:///mlflow.db"},
    )


@pytest.fixture
def healthy() -> RunReport:
    """Completed with nothing to report."""
    history = History(facts=_facts())
    for step in range(60):
        history.step_series("loss").append(step, 2.3 * math.exp(-step / 20))
    for epoch in range(6):
        history.epoch_series("train_loss").append(epoch, 2.0 - 0.3 * epoch)
        history.epoch_series("val_loss").append(epoch, 2.1 - 0.3 * epoch)
        history.improvement.update(2.1 - 0.3 * epoch, epoch=epoch, step=epoch * 10 + 9)
    return RunReport(
        RunInfo("20250101-130000-torch-d4e5f6", "2025-01-01T13:00:00+00:00", "torch"),
        Status.COMPLETED,
        diagnosis=diagnose([], None, history, None),
        progress=Progress(60, 60, 6, 60, 12.0),
        compute=Compute(12 / 3600, 0.0),
        facts=history.facts,
        best={"monitor": "val_loss", "mode": "min", "value": 0.6, "epoch": 5, "step": 59},
        history=list(history.rows()),
    )


@pytest.fixture
def early_stop(healthy: RunReport) -> RunReport:
    """An ordinary early stop with restored weights."""
    root = Finding("metric.no_improvement", Severity.INFO, 59, 5, "val_loss did not improve for 3 epochs.")
    healthy.status, healthy.findings, healthy.root = Status.STOPPED, [root], root
    healthy.diagnosis = diagnose([root], root, History(), None)
    healthy.actions = [ActionTaken("restore_best_weights", 59, 5, "Weights of epoch 2 are back.")]
    healthy.progress = Progress(60, 60, 6, 100, 12.0)
    return healthy


@pytest.fixture
def crashed() -> RunReport:
    """An exception before the first step: no curves."""
    error = ExceptionFacts(
        "RuntimeError",
        "mat1 and mat2 shapes cannot be multiplied (32x64 and 128x10)",
        'Traceback (most recent call last):\n  File "train.py", line 12, in forward\nRuntimeError: mat1\n',
        "train.py:12 in forward: return self.head(x)",
    )
    root = Finding("run.exception", Severity.FATAL, -1, 0, f"Training raised RuntimeError: {error.message}")
    return RunReport(
        RunInfo("20250101-140000-torch-ffffff", "2025-01-01T14:00:00+00:00", "torch"),
        Status.FAILED,
        [root],
        root,
        diagnose([root], root, History(), error),
        exception=error,
    )


@pytest.fixture
def hostile() -> Callable[[str], RunReport]:
    """A report in which every free text is the given one."""

    def make(text: str) -> RunReport:
        root = Finding("loss.non_finite", Severity.ERROR, 3, 0, text, Where(text, text, 3), {"x": 1.0})
        history = History(monitor=text, facts=_facts())
        for epoch in range(3):
            history.epoch_series(text).append(epoch, 1.0 - 0.1 * epoch)
            history.improvement.update(1.0, epoch=epoch, step=epoch)
        facts = Facts(
            framework=text,
            versions={text: text},
            config={text: text},
            optimizer=OptimizerFacts(text, 1.0, clipping=text, schedule=text),
            model=ModelFacts(text, activations=(text,)),
            loss_name=text,
            device=text,
            notes=[text],
        )
        error = ExceptionFacts(text, text, text, text)
        return RunReport(
            RunInfo(text, text, text, text, text, text, text, {text: text}, {text: text}),
            Status.FAILED,
            [root],
            root,
            diagnose([root], root, History(facts=facts), error),
            [ActionTaken(text, 3, 0, text)],
            Progress(4, 4, 0, None, 1.0),
            Compute(0.1),
            Overhead(0.1, 0.1, {text: 0.1}, {text: 3}),
            {text: text, "limits_exceeded": [text]},
            facts,
            error,
            {text: text},
            text,
            [{text: text}],
            {"monitor": text, "mode": "min", "value": 1.0, "epoch": 0, "step": 0},
            [PartError(text, text, text)],
            [text],
            list(history.rows()),
            {text: text},
        )

    return make
