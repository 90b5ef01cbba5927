"""Every detector trips on its TRIPS, stays quiet on its QUIET, and never raises."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from failguard.core.codes import FINDINGS
from failguard.core.event import Event
from failguard.core.facts import Facts
from failguard.core.finding import Severity
from failguard.detectors.base import Detector, Example, replay
from failguard.detectors.presets import detectors_for

DETECTORS = detectors_for(SimpleNamespace(detectors="full", monitor="val_loss", mode="min", patience=10))
TRIPS = [pytest.param(d, e, id=f"{d.code}: {e.name}") for d in DETECTORS for e in d.TRIPS]
QUIET = [pytest.param(d, e, id=f"{d.code}: {e.name}") for d in DETECTORS for e in d.QUIET]


@pytest.mark.parametrize(("detector", "example"), TRIPS)
def test_trips(detector: Detector, example: Example) -> None:
    findings = replay(detector, example)
    assert findings
    for finding in findings:
        assert finding.code == detector.code
        assert finding.message.endswith((".", "..")) or finding.code == "run.exception"
        assert all(isinstance(v, float) and math.isfinite(v) for v in finding.evidence.values()), finding.evidence


@pytest.mark.parametrize(("detector", "example"), QUIET)
def test_stays_quiet(detector: Detector, example: Example) -> None:
    assert replay(detector, example) == []


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: d.code)
def test_is_a_detector_of_the_taxonomy(detector: Detector) -> None:
    assert isinstance(detector, Detector)
    assert detector.code in FINDINGS
    assert detector.events <= frozenset(Event)  # type: ignore[attr-defined]
    assert len(detector.TRIPS) >= 2
    assert len(detector.QUIET) >= 2
    assert type(detector).__doc__


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("overflow under a loss scaler, as info", Severity.INFO),
        ("another score, as a warning", Severity.WARNING),
        ("an overflown perplexity, as info", Severity.INFO),
        ("rate far too high, cross-entropy", Severity.ERROR),
        ("a blow-up that ends in NaN", Severity.ERROR),
        ("linear regression, rate above 2 / curvature", Severity.ERROR),
        ("after some learning", Severity.ERROR),
        ("a level that stays", Severity.ERROR),
        ("a likelihood", Severity.ERROR),
        ("back at chance", Severity.WARNING),
        ("labels shuffled, a net that starts to memorise", Severity.ERROR),
        ("flat for very long", Severity.WARNING),
        ("a plain V", Severity.WARNING),
        ("best in the first epoch", Severity.ERROR),
    ],
)
def test_worst_severity(name: str, severity: Severity) -> None:
    reported = [f.severity for d in DETECTORS for e in d.TRIPS if e.name == name for f in replay(d, e)]
    assert max(reported, key=lambda s: s.rank) is severity


any_floats = st.lists(st.floats(), max_size=80)


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: d.code)
@settings(max_examples=60, deadline=None)
@given(
    losses=any_floats,
    norms=any_floats,
    train=any_floats,
    val=any_floats,
    trivial=st.none() | st.floats(0.0, 10.0),
    mode=st.sampled_from(["min", "max"]),
)
def test_never_raises_nor_warns(
    detector: Detector,
    losses: list[float],
    norms: list[float],
    train: list[float],
    val: list[float],
    trivial: float | None,
    mode: str,
) -> None:
    for steps in ({"loss": losses, "gradient_norm": norms}, {}):
        example = Example(
            "any",
            steps=steps,
            epochs={"train_loss": train, "val_loss": val},
            facts=Facts(trivial_loss=trivial),
            mode=mode,  # type: ignore[arg-type]
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for finding in replay(detector, example):
                assert all(math.isfinite(v) for v in finding.evidence.values()), finding


SCALED = ("loss.divergence", "loss.no_learning", "metric.overfitting")
# What guessing costs is a number of nats, so without facts these are recognised in that unit only.
IN_NATS = ("a log of two classes that says nothing of classes", "the more frequent class, by a log")


@settings(max_examples=8, deadline=None)
@given(power=st.integers(-30, 23))
def test_the_unit_of_the_loss_does_not_matter(power: int) -> None:
    """From 1e-9 to 1e7: a power of two scales floats without rounding, so every verdict must be the same."""
    factor = 2.0**power
    for detector in DETECTORS:
        if detector.code not in SCALED:
            continue
        for example in (e for e in (*detector.TRIPS, *detector.QUIET) if e.name not in IN_NATS):
            scaled = _scaled(example, factor)
            assert [(f.step, f.epoch, f.severity) for f in replay(detector, scaled)] == [
                (f.step, f.epoch, f.severity) for f in replay(detector, example)
            ], example.name


def _scaled(example: Example, factor: float) -> Example:
    trivial = example.facts.trivial_loss
    facts = replace(example.facts, trivial_loss=None if trivial is None else trivial * factor)
    return Example(
        example.name,
        steps={name: [x * factor for x in values] for name, values in example.steps.items()},
        epochs={
            name: [x * factor for x in values] if "loss" in name else values for name, values in example.epochs.items()
        },
        facts=facts,
        monitor=example.monitor,
        mode=example.mode,
    )


def test_a_likelihood_is_judged_the_same_wherever_its_zero_is() -> None:
    """An offset below zero changes no verdict: signs carry no meaning there."""
    for code, curve in (
        ("loss.divergence", [-x for x in range(200)] + [4.0**i for i in range(40)]),
        ("loss.divergence", [-float(x) for x in range(400)]),
    ):
        detector = next(d for d in DETECTORS if d.code == code)
        verdicts = {
            max(
                (f.severity.rank for f in replay(detector, Example("", steps={"loss": [x - o for x in curve]}))),
                default=-1,
            )
            for o in (0.0, 10.0, 100.0, 1000.0)
        }
        assert len(verdicts) == 1
