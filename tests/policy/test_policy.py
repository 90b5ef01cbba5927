from __future__ import annotations

import copy
import pickle

import pytest

from failguard.core.decision import Action
from failguard.core.finding import Finding, Severity
from failguard.errors import ConfigurationError
from failguard.policy import Policy

INFO, WARNING, ERROR, FATAL = Severity.INFO, Severity.WARNING, Severity.ERROR, Severity.FATAL


def found(code: str, severity: Severity = ERROR) -> Finding:
    return Finding(code, severity, 12, 1, "It went wrong.")


def stops(policy: Policy, code: str, severity: Severity) -> bool:
    return policy.decide([found(code, severity)]).action is Action.STOP


@pytest.mark.parametrize(
    ("code", "severity", "standard", "strict"),
    [
        ("loss.non_finite", ERROR, True, True),
        ("gradient.non_finite", ERROR, True, True),
        ("gradient.non_finite", INFO, False, False),
        ("weights.non_finite", ERROR, True, True),
        ("metric.non_finite", ERROR, False, True),
        ("loss.divergence", WARNING, False, False),
        ("loss.divergence", ERROR, True, True),
        ("loss.no_learning", ERROR, False, True),
        ("metric.overfitting", WARNING, False, False),
        ("metric.overfitting", ERROR, False, True),
        ("metric.no_improvement", INFO, True, True),
        ("resource.oom", FATAL, False, True),
        ("run.exception", FATAL, False, False),
        ("run.interrupted", WARNING, False, False),
    ],
)
def test_named_policies(code: str, severity: Severity, standard: bool, strict: bool) -> None:
    assert stops(Policy.named("standard"), code, severity) is standard
    assert stops(Policy.named("strict"), code, severity) is strict
    assert not stops(Policy.named("observe"), code, severity)


def test_only_observe_never_acts() -> None:
    assert not Policy.named("observe").acts
    assert Policy.named("standard").acts
    assert Policy.named("strict").acts
    assert Policy({"loss.*": "continue"}).acts


def test_nothing_found_goes_on() -> None:
    decision = Policy.named("strict").decide([])
    assert decision.action is Action.CONTINUE
    assert decision.finding is None


def test_the_worst_finding_is_the_reason() -> None:
    findings = [found("metric.no_improvement", INFO), found("loss.non_finite"), found("resource.oom", FATAL)]
    decision = Policy.named("strict").decide(findings)
    assert decision.finding is findings[2]
    assert "strict" in decision.reason
    assert "resource.oom" in decision.reason
    assert "It went wrong." in decision.reason


def test_a_mapping_changes_what_it_names_and_leaves_the_rest() -> None:
    policy = Policy({"metric.overfitting": "stop", "loss.divergence": Action.CONTINUE})
    assert stops(policy, "metric.overfitting", WARNING)
    assert not stops(policy, "metric.overfitting", INFO)
    assert not stops(policy, "loss.divergence", FATAL)
    assert stops(policy, "loss.non_finite", ERROR)
    assert stops(policy, "metric.no_improvement", INFO)
    assert not stops(policy, "loss.no_learning", ERROR)


def test_early_stopping_can_be_kept_from_stopping() -> None:
    assert not stops(Policy({"metric.no_improvement": "continue"}), "metric.no_improvement", INFO)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_full_code_goes_before_its_family(reverse: bool) -> None:
    actions = {"loss.*": "stop", "loss.spike": "continue"}
    policy = Policy(dict(reversed(actions.items())) if reverse else actions)
    assert stops(policy, "loss.no_learning", WARNING)
    assert not stops(policy, "loss.spike", ERROR)


def test_stops_on() -> None:
    assert Policy({"metric.overfitting": "stop"}).stops_on("metric.overfitting")
    assert Policy.named("strict").stops_on("metric.overfitting")
    assert not Policy.named("standard").stops_on("metric.overfitting")
    assert not Policy.named("observe").stops_on("loss.non_finite")


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ({"loss.diverged": "stop"}, r"loss\.divergence"),
        ({"losses.*": "stop"}, r"loss\.\*"),
        ({"loss.spike": "halt"}, r"'halt' for 'loss\.spike' is not an action.*'stop', 'continue'"),
        ({"loss.spike": "stopp"}, r"Did you mean 'stop'"),
        ({"loss.spike": None}, "is not an action"),
        ({"loss.spike": Action.SKIP}, "SKIP .* later release. STOP and CONTINUE"),
        ({"loss.spike": "rollback"}, "ROLLBACK .* later release"),
        ("standard", "mapping"),
    ],
)
def test_what_cannot_be_used_is_refused(actions: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Policy(actions)  # type: ignore[arg-type]


def test_coerce() -> None:
    policy = Policy({"loss.spike": "stop"})
    assert Policy.coerce(policy) is policy
    assert Policy.coerce({"loss.spike": "stop"}) == policy
    assert Policy.coerce("strict") == Policy.named("strict")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("recover", "later release. Use 'standard'"),
        ("lenient", "'observe', 'standard', 'strict'"),
        (3, "int"),
        (None, "NoneType"),
    ],
)
def test_coerce_refuses_the_rest(value: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Policy.coerce(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", [Policy.named("observe"), Policy({"loss.*": "stop"}, name="mine")])
def test_policies_travel(policy: Policy) -> None:
    for other in (copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        assert other == policy
        assert hash(other) == hash(policy)
        assert other.acts == policy.acts


def test_a_name_is_only_a_name() -> None:
    assert Policy({}, name="observe") != Policy.named("observe")
    assert stops(Policy({}, name="observe"), "loss.non_finite", ERROR)
