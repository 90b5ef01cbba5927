from __future__ import annotations

from dataclasses import replace

import pytest

from failguard.core.finding import Finding, Severity, Where
from failguard.episodes import Episodes, root_of
from failguard.errors import ConfigurationError

INFO, WARNING, ERROR, FATAL = Severity.INFO, Severity.WARNING, Severity.ERROR, Severity.FATAL


def found(
    code: str, severity: Severity = ERROR, step: int = 0, tensor: str | None = None, message: str = ""
) -> Finding:
    return Finding(code, severity, step, step // 10, message, Where(tensor=tensor))


# Episodes


def test_a_symptom_that_persists_is_one_alarm() -> None:
    episodes = Episodes()
    new = [f for step in range(500) for f in episodes.take_in([found("loss.non_finite", step=step)])]
    assert [f.step for f in new] == [0]


def test_a_symptom_that_comes_back_is_no_new_alarm() -> None:
    episodes = Episodes()
    assert episodes.take_in([found("loss.divergence", WARNING)])
    assert episodes.take_in([]) == []
    assert episodes.take_in([found("loss.divergence", WARNING, step=900)]) == []


def test_an_escalation_passes_once_and_a_relief_does_not() -> None:
    episodes = Episodes()
    severities = [INFO, WARNING, WARNING, INFO, ERROR, WARNING, ERROR, FATAL]
    new = [f for s in severities for f in episodes.take_in([found("loss.divergence", s)])]
    assert [f.severity for f in new] == [INFO, WARNING, ERROR, FATAL]


def test_different_symptoms_are_different_alarms() -> None:
    both = [found("loss.non_finite"), found("gradient.non_finite")]
    assert Episodes().take_in(both) == both


def test_two_reports_of_a_symptom_at_one_moment_are_one() -> None:
    assert len(Episodes().take_in([found("metric.non_finite"), found("metric.non_finite")])) == 1


def test_ignored_codes_never_pass() -> None:
    episodes = Episodes(["loss.non_finite"])
    assert episodes.take_in([found("loss.non_finite", FATAL), found("loss.divergence")]) == [found("loss.divergence")]


def test_an_unknown_ignored_code_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"loss\.non_finite"):
        Episodes(["loss.nonfinite"])


# Gating


def test_a_symptom_inside_is_evidence_until_the_outcome_is_bad() -> None:
    episodes = Episodes()
    dead = found("activation.dead", WARNING, step=30)
    assert [f.severity for f in episodes.take_in([dead])] == [INFO]
    assert episodes.take_in([dead]) == []
    assert [f.severity for f in episodes.take_in([dead], learning_is_bad=True)] == [WARNING]


def test_a_finding_of_a_bad_outcome_opens_the_gate() -> None:
    episodes = Episodes()
    both = [found("gradient.vanishing", WARNING, step=30), found("loss.no_learning", step=99)]
    assert [f.severity for f in episodes.take_in(both)] == [WARNING, ERROR]


def test_targets_that_a_loss_may_leave_out_are_evidence_until_it_does_not() -> None:
    row = found("data.non_finite", WARNING, 7, tensor="target")
    loss = found("loss.non_finite", ERROR, 7)
    episodes = Episodes()
    assert [f.severity for f in episodes.take_in([row])] == [INFO]
    assert [(f.code, f.severity) for f in episodes.take_in([loss])] == [
        ("data.non_finite", WARNING),
        ("loss.non_finite", ERROR),
    ]
    at_once = Episodes().take_in([row, loss])
    assert [f.severity for f in at_once] == [WARNING, ERROR]


def test_masked_targets_are_no_reason_of_what_goes_wrong_much_later() -> None:
    episodes = Episodes()
    episodes.take_in([found("data.non_finite", WARNING, 7, tensor="target")])
    assert [f.code for f in episodes.take_in([found("loss.non_finite", ERROR, 90)])] == ["loss.non_finite"]


def test_rows_seen_before_training_come_in_some_step() -> None:
    episodes = Episodes()
    episodes.take_in([found("data.non_finite", WARNING, -1, tensor="target")])
    assert len(episodes.take_in([found("loss.non_finite", ERROR, 90)])) == 2


def test_bad_inputs_and_what_the_user_calls_an_error_pass() -> None:
    assert Episodes().take_in([found("data.non_finite", WARNING, 7, tensor="input")])[0].severity is WARNING
    assert Episodes().take_in([found("data.non_finite", ERROR, 7, tensor="target")])[0].severity is ERROR


def test_classes_that_validation_has_are_no_nature_of_the_data() -> None:
    rare = found("data.imbalance", WARNING, 7)
    assert Episodes().take_in([rare])[0].severity is INFO
    lost = replace(rare, evidence={"validation_share": 0.3, "since_step": 0.0})
    assert Episodes().take_in([lost])[0].severity is WARNING
    assert root_of([lost, found("metric.overfitting", WARNING, 90)]) is lost


def test_an_ignored_outcome_opens_no_gate() -> None:
    episodes = Episodes(["loss.no_learning"])
    both = [found("gradient.vanishing", WARNING, step=30), found("loss.no_learning", step=99)]
    assert [(f.code, f.severity) for f in episodes.take_in(both)] == [("gradient.vanishing", INFO)]


@pytest.mark.parametrize(
    ("root", "others"),
    [
        ("activation.dead", ["loss.no_learning", "gradient.vanishing"]),
        ("model.output_mismatch", ["loss.no_learning", "metric.degenerate_predictions"]),
        ("gradient.accumulating", ["update.too_large", "loss.divergence", "loss.non_finite"]),
        ("data.scale", ["update.too_large", "loss.divergence"]),
        ("gradient.exploding", ["loss.non_finite"]),
        ("data.constant_feature", ["loss.no_learning", "activation.dead", "metric.degenerate_predictions"]),
        ("model.no_nonlinearity", ["loss.no_learning", "loss.plateau"]),
        ("gradient.missing", ["weights.frozen", "loss.no_learning"]),
        ("data.repeated_batch", ["metric.overfitting"]),
        ("model.wrong_mode", ["metric.overfitting"]),
        ("data.unshuffled", ["loss.oscillation", "loss.spike"]),
    ],
)
def test_what_is_wrong_inside_is_the_root_of_what_follows(root: str, others: list[str]) -> None:
    chain = [found(code, step=90 + i) for i, code in enumerate(others)] + [
        Finding(root, WARNING, 95, 9, "", evidence={"since_step": 10.0})
    ]
    result = root_of(chain)
    assert result is not None
    assert result.code == root


# root_of


def test_a_healthy_run_has_no_root() -> None:
    assert root_of([]) is None
    assert root_of([found("gradient.non_finite", INFO, step=5)]) is None  # an overflow under a loss scaler


def root_code(*findings: Finding) -> str:
    root = root_of(findings)
    assert root is not None
    return root.code


def test_a_bad_value_in_the_data_explains_the_bad_loss_of_the_same_step() -> None:
    loss = found("loss.non_finite", step=130, tensor="input")  # where it was located
    assert root_code(loss, found("data.non_finite", WARNING, step=130, tensor="input")) == "data.non_finite"


@pytest.mark.parametrize(
    ("findings", "root"),
    [
        # chains of bad values
        ([found("loss.non_finite", step=9), found("gradient.non_finite", step=9)], "loss.non_finite"),
        ([found("gradient.non_finite", step=9), found("loss.non_finite", step=9)], "loss.non_finite"),
        ([found("gradient.non_finite", step=9), found("loss.non_finite", step=10)], "gradient.non_finite"),
        ([found("loss.non_finite", step=9), found("weights.non_finite", step=44)], "loss.non_finite"),
        ([found("weights.non_finite", step=44), found("metric.non_finite", step=44)], "weights.non_finite"),
        (
            [found("loss.non_finite", step=9, tensor="loss"), found("gradient.non_finite", step=9, tensor="input")],
            "gradient.non_finite",
        ),
        # divergence
        ([found("loss.divergence", WARNING, 16), found("loss.non_finite", step=20)], "loss.divergence"),
        ([found("loss.divergence", step=20), found("loss.non_finite", step=20)], "loss.divergence"),
        ([found("loss.divergence", step=20), found("metric.overfitting", step=60)], "loss.divergence"),
        ([found("loss.divergence", step=20), found("loss.no_learning", step=180)], "loss.divergence"),
        ([found("loss.non_finite", step=20), found("loss.divergence", step=60)], "loss.non_finite"),
        # early stops
        ([found("metric.no_improvement", INFO)], "metric.no_improvement"),
        (
            [found("metric.overfitting", WARNING, 90), found("metric.no_improvement", INFO, 90)],
            "metric.overfitting",
        ),
        ([found("loss.no_learning", WARNING, 50), found("metric.no_improvement", INFO, 90)], "loss.no_learning"),
        ([found("loss.non_finite", step=20), found("metric.no_improvement", INFO, 90)], "loss.non_finite"),
        ([found("loss.divergence", WARNING, 5), found("metric.no_improvement", INFO, 90)], "metric.no_improvement"),
        ([found("resource.disk_low", WARNING, 5), found("metric.no_improvement", INFO, 90)], "metric.no_improvement"),
        ([found("metric.no_improvement", INFO, 90), found("metric.overfitting", WARNING, 95)], "metric.no_improvement"),
        # exceptions
        ([found("run.exception", FATAL, 50)], "run.exception"),
        ([found("metric.overfitting", WARNING, 40), found("run.exception", FATAL, 50)], "run.exception"),
        ([found("loss.divergence", WARNING, 40), found("run.exception", FATAL, 50)], "run.exception"),
        ([found("loss.no_learning", ERROR, 40), found("run.exception", FATAL, 50)], "run.exception"),
        ([found("loss.non_finite", step=50), found("run.exception", FATAL, 50)], "loss.non_finite"),
        ([found("loss.non_finite", step=9), found("run.exception", FATAL, 50)], "run.exception"),
        (
            [
                found("loss.non_finite", step=9),
                found("run.exception", FATAL, 50, message="ValueError: Input contains NaN."),
            ],
            "loss.non_finite",
        ),
        (
            [
                found("run.exception", FATAL, 50, message="KeyError: 'information of nanny'"),
                found("loss.spike", step=49),
            ],
            "run.exception",
        ),
        (
            [
                found("loss.divergence", WARNING, 8),
                found("loss.non_finite", step=9),
                found("run.exception", FATAL, 10),
            ],
            "loss.divergence",
        ),
        # interrupts
        ([found("run.interrupted", WARNING, 50)], "run.interrupted"),
        ([found("metric.overfitting", WARNING, 40), found("run.interrupted", WARNING, 50)], "run.interrupted"),
        ([found("loss.divergence", ERROR, 40), found("run.interrupted", WARNING, 50)], "loss.divergence"),
        # only warnings: the earliest
        ([found("metric.overfitting", WARNING, 40), found("loss.no_learning", WARNING, 30)], "loss.no_learning"),
    ],
)
def test_root(findings: list[Finding], root: str) -> None:
    assert root_code(*findings) == root


def test_a_confirmed_finding_is_named_rather_than_the_suspicion_before_it() -> None:
    suspected, confirmed = found("loss.divergence", WARNING, 16), found("loss.divergence", ERROR, 48)
    assert root_of([suspected, confirmed, found("loss.non_finite", step=60)]) is confirmed


def test_the_order_in_which_findings_are_given_does_not_matter() -> None:
    findings = [
        found("loss.divergence", WARNING, 16),
        found("loss.non_finite", step=20),
        found("gradient.non_finite", step=20),
        found("metric.non_finite", step=44),
    ]
    assert root_of(findings) == root_of(findings[::-1])


def test_equal_findings_end() -> None:
    twice = [found("gradient.non_finite", step=3), found("gradient.non_finite", step=3)]
    assert root_of(twice) == twice[0]


def test_a_confirmed_finding_counts_from_when_it_was_suspected() -> None:
    """The recorder keeps one finding a symptom: the confirmed one, with the step of the suspicion in its evidence."""
    diverged = Finding("loss.divergence", ERROR, 48, 1, "", evidence={"first_seen_step": 16.0})
    assert root_of([diverged, found("loss.non_finite", step=20)]) is diverged


def test_a_benign_overflow_is_no_early_sign_of_a_bad_gradient() -> None:
    gradient = Finding("gradient.non_finite", ERROR, 500, 9, "", evidence={"first_seen_step": 3.0})
    bad_loss = found("loss.non_finite", step=499)
    assert root_of([gradient, bad_loss]) is bad_loss


def test_a_bad_metric_is_not_the_root_of_a_later_failure_of_training() -> None:
    metric = found("metric.non_finite", step=40, tensor="val_loss")
    loss = found("loss.non_finite", step=90, tensor="loss")
    assert root_of([metric, loss]) == loss
    assert root_of([metric]) == metric


@pytest.mark.parametrize(
    ("symptoms", "severities"),
    [
        ([("activation.dead", {"layers_affected": 1.0})], ["info"]),
        ([("activation.dead", {"layers_affected": 2.0})], ["warning"]),
        ([("activation.dead", {}), ("data.scale", {})], ["warning", "warning"]),
        ([("activation.dead", {}), ("gradient.vanishing", {})], ["info", "info"]),  # one follows from the other
        ([("data.scale", {})], ["info"]),
    ],
)
def test_where_little_is_learned_symptoms_have_to_agree(
    symptoms: list[tuple[str, dict[str, float]]], severities: list[str]
) -> None:
    findings = [Finding(code, WARNING, 5, 0, "It is so.", evidence=evidence) for code, evidence in symptoms]
    raised = Episodes().take_in(findings, learning_is_poor=True)
    assert [f.severity for f in raised] == severities


def test_dead_units_explain_gradients_that_vanish_whichever_was_seen_first() -> None:
    findings = [found("gradient.vanishing", WARNING, 24), found("activation.dead", WARNING, 90)]
    root = root_of([*findings, found("loss.no_learning", step=200)])
    assert root is not None
    assert root.code == "activation.dead"


def test_not_learning_explains_constant_predictions_whichever_was_seen_first() -> None:
    result = root_of([found("metric.degenerate_predictions", WARNING, 70), found("loss.no_learning", WARNING, 90)])
    assert result is not None
    assert result.code == "loss.no_learning"


def test_weights_that_stand_still_for_want_of_a_rate_are_no_reason() -> None:
    frozen = Finding("weights.frozen", WARNING, 250, 6, "", evidence={"since_step": 120.0, "moved_before": 1.0})
    early = Finding("weights.frozen", WARNING, 250, 6, "", evidence={"since_step": 80.0, "moved_before": 0.0})
    plateau = Finding("loss.plateau", WARNING, 300, 7, "", evidence={"rate_share": 0.0})
    result = root_of([early, plateau])
    assert result is not None
    assert result.code == "loss.plateau"
    for rest in ([], [found("loss.no_learning", ERROR, 470)]):
        result = root_of([frozen, plateau, *rest])
        assert result is not None
        assert result.code in ("loss.plateau", "loss.no_learning")
    from_the_start = Finding("weights.frozen", WARNING, 250, 6, "", evidence={"since_step": 20.0, "moved_before": 0.0})
    result = root_of([from_the_start, found("loss.no_learning", ERROR, 470)])
    assert result is not None
    assert result.code == "weights.frozen"


def test_validation_that_was_far_off_from_the_start_explains_why_it_gets_worse() -> None:
    worse = [found("metric.overfitting", WARNING, 40), found("metric.overfitting", ERROR, 95)]
    drift = found("data.drift", WARNING, 55)
    assert root_of([*worse, drift]) is drift


def test_a_bad_value_in_a_batch_explains_what_is_not_finite_in_its_step() -> None:
    row = found("data.non_finite", WARNING, 1, tensor="input")
    assert root_of([found("gradient.non_finite", ERROR, 1, tensor="input"), row]) is row
    assert root_of([found("loss.non_finite", ERROR, 1, tensor="input"), row]) is row
