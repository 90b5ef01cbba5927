"""False-alarm and recall rates over simulated runs of many kinds."""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from failguard.core.event import Event
from failguard.core.facts import Facts
from failguard.core.finding import Severity
from failguard.core.history import History
from failguard.core.observation import Observation
from failguard.detectors.base import Example, replay
from failguard.detectors.loss_divergence import LossDivergence
from failguard.detectors.loss_no_learning import LossNoLearning
from failguard.detectors.loss_oscillation import LossOscillation
from failguard.detectors.loss_plateau import LossPlateau
from failguard.detectors.loss_spike import LossSpike
from failguard.detectors.metric_overfitting import MetricOverfitting

JUDGES = (LossSpike(), LossDivergence(), LossNoLearning(), LossPlateau(), LossOscillation(), MetricOverfitting())
HERE = Path(__file__).parent
CURVES = HERE.parents[2] / "shared" / "data" / "overfit_curves_simulated.npz"


def _healthy(seeds: int) -> list[Example]:
    spec = importlib.util.spec_from_file_location("healthy_curves", HERE / "healthy_curves.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.healthy_examples(seeds))


def test_healthy_runs_raise_no_error_and_hardly_a_warning() -> None:
    examples = _healthy(seeds=15)
    assert len(examples) >= 200
    alarms: Counter[str] = Counter()
    warned = 0
    for example in examples:
        reported = [f for judge in JUDGES for f in replay(judge, example)]
        alarms.update({f"{example.name}: {f.code} {f.severity}" for f in reported if f.severity is not Severity.INFO})
        warned += any(f.severity is Severity.WARNING for f in reported)
        assert not [f for f in reported if f.severity.rank >= Severity.ERROR.rank], example.name
    assert warned <= 0.02 * len(examples), alarms


@pytest.mark.parametrize("seed", range(10))
def test_a_rate_far_too_high_is_confirmed_within_dozens_of_steps(seed: int) -> None:
    """Cross-entropy that jumps by orders of magnitude at once and stays at a noisy high level."""
    rng = np.random.default_rng(seed)
    level = 10 ** rng.uniform(1.3, 6)
    jump = [2.3, level * rng.uniform(1, 5), level * 10 ** rng.uniform(0, 3)]
    losses = [*jump, *(level * np.exp(0.5 * rng.standard_normal(80)))]
    found = replay(LossDivergence(), Example("", steps={"loss": losses}, facts=Facts(trivial_loss=2.303)))
    confirmed = [f.step for f in found if f.severity is Severity.ERROR]
    assert confirmed
    assert confirmed[0] <= 64


@pytest.mark.parametrize("seed", range(10))
def test_growth_of_a_regression_loss_is_confirmed(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rate = rng.uniform(1.2, 5.0)
    losses = [float(min(10 ** rng.uniform(-6, 4) * rate**i, 1e300)) for i in range(120)]
    scale = losses[0]
    losses = [scale * rate**i * float(np.exp(0.3 * rng.standard_normal())) for i in range(120)]
    found = replay(LossDivergence(), Example("", steps={"loss": losses}))
    assert any(f.severity is Severity.ERROR for f in found)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("epochs", [8, 10, 30])
def test_shuffled_labels_are_found_well_before_the_end(seed: int, epochs: int) -> None:
    """1,437 samples in batches of 32; the net memorises slowly, validation strays around chance and gets worse."""
    rng = np.random.default_rng(seed)
    steps = 45 * epochs
    train = np.linspace(2.33, 2.303 - 0.02 * rng.uniform(0.2, 1.0) * epochs, steps) + 0.06 * rng.standard_normal(steps)
    val = 2.305 + rng.uniform(0.0, 0.03) * np.arange(epochs) + 0.015 * rng.standard_normal(epochs)
    facts = Facts(trivial_loss=2.3026, max_epochs=epochs, steps_per_epoch=45)
    found = replay(LossNoLearning(), Example("", steps={"loss": train}, epochs={"val_loss": val}, facts=facts))
    assert found
    assert found[0].epoch + 1 <= 0.6 * epochs
    confirmed = [f.epoch for f in found if f.severity is Severity.ERROR]
    assert confirmed
    assert confirmed[0] + 1 <= 0.9 * epochs


@pytest.mark.parametrize("share", [0.45, 0.55, 0.65])
def test_a_plateau_at_chance_is_an_error_only_when_it_lasts(share: float) -> None:
    rng = np.random.default_rng(0)
    steps, epochs = 900, 20
    flat = int(share * steps)
    facts = Facts(trivial_loss=2.3026, max_epochs=epochs, steps_per_epoch=45)

    def severities(curve: np.ndarray) -> set[Severity]:
        val = curve[44::45] * (1 + 0.003 * rng.standard_normal(epochs))
        loss = curve + 0.05 * rng.standard_normal(steps)
        return {
            f.severity
            for f in replay(LossNoLearning(), Example("", steps={"loss": loss}, epochs={"val_loss": val}, facts=facts))
        }

    ends = np.concatenate([np.full(flat, 2.3026), np.geomspace(2.3, 0.2, steps - flat)])
    assert severities(ends) <= {Severity.WARNING}
    assert severities(np.full(steps, 2.3026)) == {Severity.WARNING, Severity.ERROR}


def test_a_run_stopped_early_at_chance_is_an_error_at_its_end() -> None:
    """Early stopping ended it at half of the plan."""
    rng = np.random.default_rng(0)
    loss, val = 2.3026 + 0.05 * rng.standard_normal(450), 2.31 + 0.005 * rng.standard_normal(10)
    facts = Facts(trivial_loss=2.3026, max_epochs=20, steps_per_epoch=45)
    found = replay(LossNoLearning(), Example("", steps={"loss": loss}, epochs={"val_loss": val}, facts=facts))
    assert found[0].severity is Severity.WARNING
    assert found[-1].severity is Severity.ERROR


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("patience", [8, 10])
def test_a_large_model_on_little_data_is_found_before_an_early_stop(seed: int, patience: int) -> None:
    rng = np.random.default_rng(seed)
    best = int(rng.integers(6, 20))
    val = np.concatenate([np.geomspace(2.2, 0.5, best + 1), 0.5 * (1 + rng.uniform(0.02, 0.05) * np.arange(1, 20))])
    val = val * (1 + 0.004 * rng.standard_normal(val.size))
    train = np.concatenate([np.geomspace(2.1, 0.06, best + 1), 0.06 * rng.uniform(0.75, 0.9) ** np.arange(1, 20)])
    found = replay(MetricOverfitting(), Example("", epochs={"train_loss": train, "val_loss": val}))
    assert found
    assert found[0].epoch <= int(np.argmin(val)) + patience


def test_f1_on_curves_labelled_by_others(record_property: pytest.RecordProperty) -> None:
    """419 simulated trainings, 44 overfit. Measured: F1 0.978 (no overfit run missed, 2 false alarms)."""
    if not CURVES.exists():
        pytest.skip(f"{CURVES.name} is not here")
    data = np.load(CURVES)
    truth = data["overfit"]
    flagged = np.array([_flags(t, v) for t, v in zip(data["train_loss"], data["val_loss"], strict=True)])
    hits = int((flagged & truth).sum())
    f1 = 2 * hits / int(flagged.sum() + truth.sum())
    record_property("f1", f1)
    print(f"F1 {f1:.3f}, missed {int((truth & ~flagged).sum())}, false alarms {int((flagged & ~truth).sum())}")
    assert f1 >= 0.96


def _flags(train: np.ndarray, val: np.ndarray, every_epochs: int = 20) -> bool:
    """Whether a replay of the whole curve raises the finding at any time, looked at every 20 epochs and at the end."""
    detector, history = MetricOverfitting(), History()
    t, v = history.epoch_series("train_loss"), history.epoch_series("val_loss")
    last = int(np.isfinite(val).sum()) - 1
    for epoch in range(last + 1):
        value = float(val[epoch])
        t.append(epoch, float(train[epoch]))
        v.append(epoch, value)
        history.improvement.update(value, epoch=epoch, step=epoch)
        if epoch % every_epochs == 0 or epoch == last:
            observation = Observation(Event.EPOCH_END, epoch, epoch, epoch, {"val_loss": value}, True)
            if detector.check(observation, history) is not None:
                return True
    return False


def test_growth_before_a_bad_value_is_told_from_a_corrupted_batch() -> None:
    from failguard.detectors.loss_non_finite import LossNonFinite

    rng = np.random.default_rng(0)
    grown = [2.3 * 1.5**i for i in range(30)] + [math.inf]
    sudden = [*(0.5 * np.exp(0.3 * rng.standard_normal(100))), math.nan]
    (after_growth,) = replay(LossNonFinite(), Example("", steps={"loss": grown}))
    (corrupted,) = replay(LossNonFinite(), Example("", steps={"loss": sudden}))
    assert after_growth.evidence["loss_growth_ratio"] > 100
    assert after_growth.evidence["steps_of_growth"] > 20
    assert corrupted.evidence["loss_growth_ratio"] < 3
    assert corrupted.evidence["steps_of_growth"] < 10
