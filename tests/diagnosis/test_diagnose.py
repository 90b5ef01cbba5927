"""Symptoms and evidence in, the right cause first out."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from failguard.core.codes import CAUSES, FINDINGS
from failguard.core.facts import Facts, InputFacts, ModelFacts, OptimizerFacts, SetupFacts
from failguard.core.finding import Finding, Severity
from failguard.core.history import History
from failguard.core.internals import Internals, LayerReading, PredictionReading
from failguard.core.observation import ExceptionFacts
from failguard.diagnosis import diagnose
from failguard.diagnosis.case import Case
from failguard.diagnosis.causes import KNOWLEDGE
from failguard.diagnosis.remedies import lower_learning_rate, regularize

NAN = math.nan
ADAM: dict[str, Any] = {"name": "Adam", "learning_rate": 1e-3, "weight_decay": 0.0}
SGD: dict[str, Any] = {"name": "SGD", "learning_rate": 0.05, "momentum": 0.9}
FALLING = {"train_loss": [1, 0.6, 0.3, 0.1, 0.05, 0.02], "val_loss": [1.1, 0.8, 0.7, 0.8, 1.0, 1.3]}


def around(level: float, n: int, spread: float = 0.05) -> list[float]:
    generator = random.Random(0)
    return [level + generator.gauss(0, spread) for _ in range(n)]


def decay_to(level: float, n: int) -> list[float]:
    return [level + 2.0 * 0.5 ** (10 * i / n) for i in range(n)]


def test_every_row_names_codes_of_the_taxonomy():
    for row in KNOWLEDGE:
        assert row.code in CAUSES
        assert set(row.symptoms) <= set(FINDINGS), row.code
    codes = [row.code for row in KNOWLEDGE]
    assert len(codes) == len(set(codes))


def test_a_healthy_run_gets_one_calm_sentence(make_history):
    diagnosis = diagnose([], None, make_history(around(1, 50), epochs={"val_loss": [0.9, 0.5]}), None)
    assert diagnosis.causes == ()
    assert diagnosis.likely_cause is None
    assert diagnosis.summary == "Nothing went wrong. The best val_loss is 0.5, of epoch 1."


def test_an_early_stop_is_no_failure(make_history, make_finding):
    root = make_finding("metric.no_improvement", 50, "info", "val_loss did not improve for 3 epochs.")
    diagnosis = diagnose([root], root, make_history(around(1, 50), epochs=FALLING), None)
    assert diagnosis.causes == ()
    assert diagnosis.summary == "val_loss did not improve for 3 epochs."


def test_a_batch_with_bad_input_is_a_corrupted_batch(make_history, make_finding):
    root = make_finding("loss.non_finite", 57, tensor="input", batch=57)
    diagnosis = diagnose([root], root, make_history([*around(0.4, 57), NAN], optimizer=SGD, steps_per_epoch=45), None)
    assert [c.code for c in diagnosis.causes] == ["corrupted_batch"]
    cause = diagnosis.causes[0]
    assert "batch 57 (batch 12 of epoch 1)" in cause.remedy
    assert "input of batch 57" in cause.evidence[0]
    assert "corrupted batch" in diagnosis.summary


def test_what_the_data_checks_found_is_the_evidence(make_history, make_finding):
    root = make_finding("data.non_finite", -1, "warning", "Training data: 1 value of NaN or Inf in the input (row 9).")
    diagnosis = diagnose([root], root, make_history(around(0.4, 57), optimizer=SGD), None)
    assert diagnosis.causes[0].evidence[0] == "training data: 1 value of NaN or Inf in the input (row 9)"
    root = make_finding("data.outliers", 20, "warning", "Batch 20: 1 values up to 1e+09 in the input.")
    assert diagnose([root], root, make_history(around(0.4, 57)), None).likely_cause == "corrupted_batch"
    root = make_finding("data.constant_feature", 20, "warning", "Batch 20: all 64 values of the input are 0.")
    assert diagnose([root], root, make_history(around(0.4, 57)), None).likely_cause == "corrupted_batch"
    root = make_finding("data.labels", 0, "warning", "Batch 0: labels reach from 1 to 3.")
    assert diagnose([root], root, make_history(around(0.4, 57)), None).likely_cause == "bad_labels"


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (
            {0: 1400, 1: 100},
            "labels come 14:1 (93% are class 0), now one class is predicted (100% of the last 32 samples)",
        ),
        ({0: 20, 3: 950, 7: 30}, "labels come 47.5:1 against the rarest one (95% are class 3), now one class"),
    ],
)
def test_lopsided_labels_and_what_is_predicted(make_history, make_finding, counts, words):
    root = make_finding("loss.no_learning", 200)
    history = make_history(around(0.25, 300), target_kind="classes", class_counts=counts)
    history.add_internals(Internals(150, 150, predictions=PredictionReading(samples=32, top_share=1.0)))
    causes = {c.code: c for c in diagnose([root], root, history, None).causes}
    assert words in causes["class_imbalance"].evidence[0]
    history.add_internals(Internals(180, 180, predictions=PredictionReading(samples=32, top_share=0.7)))
    causes = {c.code: c for c in diagnose([root], root, history, None).causes}
    assert "predicted" not in causes["class_imbalance"].evidence[0]


def test_types_of_the_batch_are_told_with_an_exception_about_types(make_history, make_finding):
    root = make_finding("run.exception", 0, "fatal")
    history = make_history()
    history.facts.inputs.dtype, history.facts.target.dtype = "float64", "int64"
    error = ExceptionFacts("RuntimeError", "mat1 and mat2 must have the same dtype, but got Double and Float")
    cause = diagnose([root], root, history, error).causes[0]
    assert cause.code == "dtype_mismatch"
    assert "the inputs are float64 and targets are int64" in cause.evidence


def test_bad_input_wins_over_a_high_rate(make_history, make_finding):
    root = make_finding("loss.non_finite", 57, tensor="target", batch=57)
    history = make_history([*around(0.4, 57), NAN], optimizer={**ADAM, "learning_rate": 1.0})
    assert diagnose([root], root, history, None).likely_cause == "corrupted_batch"


def test_an_isolated_bad_loss_after_calm_points_to_the_batch(make_history, make_finding):
    root = make_finding("loss.non_finite", 57, tensor="loss", batch=57)
    diagnosis = diagnose([root], root, make_history([*around(0.4, 57), NAN], optimizer=ADAM), None)
    assert diagnosis.likely_cause == "corrupted_batch"
    assert diagnosis.causes[0].confidence < 0.8  # nobody looked at the batch


def test_one_absurd_batch_is_told_from_a_blow_up(make_history, make_finding):
    root = make_finding("loss.non_finite", 58, tensor="loss", batch=58)
    history = make_history([*around(0.4, 57), 4e8, NAN], optimizer=ADAM)
    diagnosis = diagnose([root], root, history, None)
    assert diagnosis.likely_cause == "corrupted_batch"
    assert "single batch (57) took the loss" in diagnosis.causes[0].evidence[0]


def test_the_batch_that_blew_up_a_noisy_loss_is_named(make_history, make_finding):
    root = make_finding("loss.divergence", 58)
    noisy = [0.1 if i % 5 else 0.4 for i in range(57)]  # the newest lie above twice the lowest level
    history = make_history([*noisy[:-3], 0.3, 0.4, 0.3, 4e8, NAN], optimizer=ADAM)
    diagnosis = diagnose([root], root, history, None)
    assert diagnosis.likely_cause == "corrupted_batch"
    assert "batch 57" in diagnosis.causes[0].remedy


@pytest.mark.parametrize(
    ("loss", "code", "step"),
    [
        ([2.3, 4, 40, 900, 1e6, 1e15, NAN], "loss.non_finite", 6),
        ([2.3, *around(60, 100, 10)], "loss.divergence", 60),
        ([2.3, NAN], "loss.non_finite", 1),
    ],
    ids=["blow-up", "divergence", "at once"],
)
def test_a_high_rate_is_named_with_a_lower_one(make_history, make_finding, loss, code, step):
    root = make_finding(code, step, module="fc2", tensor="output", batch=step)
    history = make_history(loss, optimizer={"name": "SGD", "learning_rate": 50.0})
    diagnosis = diagnose([root], root, history, None)
    cause = diagnosis.causes[0]
    assert cause.code == "learning_rate_too_high"
    assert cause.remedy == "Lower the learning rate from 50 to 0.01."
    assert cause.config_values["learning_rate"] == 50.0
    assert diagnosis.config_issues


def test_half_becomes_five_thousandths_or_less(make_history, make_finding):
    root = make_finding("loss.divergence", 60)
    history = make_history([2.3, *around(60, 100, 10)], optimizer={"name": "Custom", "learning_rate": 0.5})
    assert "from 0.5 to 0.05" in diagnose([root], root, history, None).causes[0].remedy
    history = make_history([2.3, *around(60, 100, 10)], optimizer={"name": "Adam", "learning_rate": 0.5})
    assert "from 0.5 to 0.001" in diagnose([root], root, history, None).causes[0].remedy


def test_growth_alone_points_to_the_rate_and_says_what_speaks_against_it(make_history, make_finding):
    root = make_finding("loss.divergence", 130)
    history = make_history([*around(1, 100), *(1.1**i for i in range(60))], optimizer=ADAM)
    cause = diagnose([root], root, history, None).causes[0]
    assert cause.code == "learning_rate_too_high"
    assert any(e.startswith("against: ") and "usual" in e for e in cause.evidence)


def test_a_divergence_without_facts_is_explained_from_the_curve(make_history, make_finding):
    root = make_finding("loss.divergence", 4, epoch=4)
    history = make_history(epochs={"train_loss": [1.0, 0.9, 3.0, 30.0, 300.0, 3000.0]})
    cause = diagnose([root], root, history, None).causes[0]
    assert cause.code == "learning_rate_too_high"
    assert "epochs" in cause.evidence[0]


def test_an_operation_that_makes_nan_from_good_data(make_history, make_finding):
    root = make_finding("loss.non_finite", 57, module="log_prob", tensor="output", batch=57)
    cause = diagnose([root], root, make_history([*around(0.4, 57), NAN], optimizer=ADAM), None).causes[0]
    assert cause.code == "numerical_instability"
    assert "log_prob" in cause.remedy


def test_gradient_bursts_without_clipping(make_history, make_finding):
    root = make_finding("gradient.non_finite", 40, tensor="gradient", module="rnn", batch=40)
    norms = [*around(3.0, 38), 90.0, 900.0, math.inf]
    plain = diagnose([root], root, make_history(around(1, 40), norms, optimizer=ADAM, framework="keras"), None)
    assert "missing_gradient_clipping" in [c.code for c in plain.causes]
    remedy = next(c.remedy for c in plain.causes if c.code == "missing_gradient_clipping")
    assert "clipnorm=6" in remedy
    clipped = {**ADAM, "clipping": "norm 1.0"}
    already = diagnose([root], root, make_history(around(1, 40), norms, optimizer=clipped), None)
    assert "missing_gradient_clipping" not in [c.code for c in already.causes]


def test_float16_overflow_is_named_only_where_float16_is_used(make_history, make_finding):
    root = make_finding("gradient.non_finite", 40, tensor="gradient", batch=40)
    half = make_history(around(1, 40), optimizer=ADAM, loss_scaled=True, framework="lightning")
    cause = next(c for c in diagnose([root], root, half, None).causes if c.code == "mixed_precision_overflow")
    assert "bf16-mixed" in cause.remedy
    full = make_history(around(1, 40), optimizer=ADAM)
    assert all(c.code != "mixed_precision_overflow" for c in diagnose([root], root, full, None).causes)


def test_labels_beyond_the_output(make_history, make_finding):
    root = make_finding("loss.non_finite", 3, tensor="loss", batch=3)
    history = make_history(
        [2.3, 2.3, 2.3, NAN],
        optimizer=ADAM,
        model={"output_width": 10},
        target_kind="classes",
        class_counts={0: 5, 10: 3},
    )
    diagnosis = diagnose([root], root, history, None)
    assert diagnosis.likely_cause == "bad_labels"
    assert "give the last layer 11 units" in diagnosis.causes[0].remedy
    assert any("labels go up to 10" in issue for issue in diagnosis.config_issues)


def test_unscaled_inputs_need_evidence(make_history, make_finding):
    root = make_finding("loss.divergence", 30)
    scale = make_finding("data.scale", -1, "warning", "Feature 3 reaches 1e5.")
    loss = [500.0, *around(900, 60, 10)]
    history = make_history(loss, optimizer=ADAM, trivial_loss=2.3)
    with_evidence = diagnose([scale, root], root, history, None)
    assert with_evidence.likely_cause in ("unscaled_inputs", "learning_rate_too_high")
    assert "unscaled_inputs" in [c.code for c in with_evidence.causes]
    without = diagnose([root], root, make_history([2.3, *around(90, 60)], optimizer=ADAM, trivial_loss=2.3), None)
    assert "unscaled_inputs" not in [c.code for c in without.causes]


@pytest.mark.parametrize(
    ("rate", "cause"), [(1e-3, "no_signal"), (1e-9, "learning_rate_too_low"), (5.0, "learning_rate_too_high")]
)
def test_no_learning_is_told_apart_by_the_rate(make_history, make_finding, rate, cause):
    root = make_finding("loss.no_learning", 300)
    history = make_history(
        around(2.30, 300, 0.03), around(0.3, 30, 0.01), optimizer={**ADAM, "learning_rate": rate}, trivial_loss=2.299
    )
    assert diagnose([root], root, history, None).likely_cause == cause


@pytest.mark.parametrize(("trainable", "cause"), [(100, "detached_graph"), (0, "frozen_parameters")])
def test_no_gradient_is_told_apart_by_what_is_trainable(make_history, make_finding, trainable, cause):
    root = make_finding("loss.no_learning", 300)
    model = {"parameters": 100, "trainable_parameters": trainable}
    history = make_history(around(2.3, 300), [0.0] * 30, optimizer=ADAM, model=model, trivial_loss=2.3)
    assert diagnose([root], root, history, None).likely_cause == cause


def test_creeping_validation_is_a_low_rate(make_history, make_finding):
    root = make_finding("loss.no_learning", 300)
    epochs = {"val_loss": [2.338, 2.336, 2.334, 2.332, 2.330]}
    history = make_history(
        around(2.32, 300, 0.03), [0.9] * 30, epochs, optimizer={**ADAM, "learning_rate": 1e-6}, trivial_loss=2.299
    )
    cause = diagnose([root], root, history, None).causes[0]
    assert cause.code == "learning_rate_too_low"
    assert any("falls at every epoch" in e for e in cause.evidence)


@pytest.mark.parametrize(
    "epochs",
    [
        {"val_loss": [2.43, 2.40, 2.38, 2.365, 2.352, 2.343]},
        {"val_loss": [2.360, 2.357, 2.353, 2.350, 2.346, 2.343], "train_loss": [2.40, 2.36, 2.33, 2.31, 2.30, 2.28]},
    ],
)
def test_noise_that_sheds_the_error_of_the_initial_weights_is_no_low_rate(make_history, make_finding, epochs):
    root = make_finding("loss.no_learning", 270)
    history = make_history(around(2.29, 270, 0.03), [0.5] * 30, epochs, optimizer=ADAM, trivial_loss=2.30)
    assert diagnose([root], root, history, None).likely_cause == "no_signal"


def test_the_same_validation_at_every_epoch_means_that_weights_stand_still(make_history, make_finding):
    root = make_finding("loss.no_learning", 300)
    model = {"parameters": 4810, "trainable_parameters": 4810}
    history = make_history(
        around(2.32, 300, 0.03), epochs={"val_loss": [2.339] * 6}, optimizer=ADAM, model=model, trivial_loss=2.299
    )
    cause = diagnose([root], root, history, None).causes[0]
    assert cause.code == "parameters_not_in_optimizer"
    assert "optimizer was given this model's parameters" in cause.remedy


@pytest.mark.parametrize(
    ("facts", "remedy"),
    [
        ({"model": {"dropout": 0.95}, "optimizer": ADAM}, "Lower dropout from 0.95 to 0.3."),
        ({"optimizer": {**ADAM, "weight_decay": 30.0}}, "Lower weight decay from 30 to 0.01."),
    ],
)
def test_regularization_that_leaves_nothing_to_learn(make_history, make_finding, facts, remedy):
    root = make_finding("loss.no_learning", 300)
    epochs = {"val_loss": around(2.30, 8, 0.01)}
    history = make_history(around(2.31, 300, 0.03), [0.3] * 30, epochs, trivial_loss=2.299, **facts)
    cause = diagnose([root], root, history, None).causes[0]
    assert (cause.code, cause.remedy) == ("too_much_regularization", remedy)


def test_a_divergence_that_dips_is_not_called_calm(make_history, make_finding):
    root = make_finding("loss.divergence", 128)
    loss = [*decay_to(0.3, 60), *(50.0 if i % 6 else 0.2 for i in range(69))]
    causes = diagnose([root], root, make_history(loss, optimizer=SGD, trivial_loss=2.3), None).causes
    assert causes[0].code == "learning_rate_too_high"
    assert not any("were fine" in e for c in causes for e in c.evidence)


def test_a_loss_that_is_bad_from_finite_data_is_no_corrupted_batch(make_history, make_finding):
    root = make_finding("loss.non_finite", 57, tensor="loss", batch=57)
    looked = {"framework": "torch", "device": "cpu", "batch_size": 32}
    diagnosis = diagnose([root], root, make_history([*around(0.4, 57), NAN], optimizer=ADAM, **looked), None)
    assert diagnosis.likely_cause == "numerical_instability"
    assert "corrupted_batch" not in [c.code for c in diagnosis.causes]
    assert "in the loss" in diagnosis.causes[0].remedy


def test_only_a_loss_of_probabilities_is_told_to_use_logits(make_history, make_finding):
    root = make_finding("loss.non_finite", 57, tensor="loss", batch=57)
    looked = {"framework": "torch", "device": "cpu", "batch_size": 32}
    for name, wanted in (("nll_loss", True), ("cross_entropy", False), (None, False)):
        history = make_history([*around(0.4, 57), NAN], optimizer=ADAM, loss_name=name, **looked)
        remedy = diagnose([root], root, history, None).causes[0].remedy
        assert ("from logits" in remedy) is wanted


def test_an_explosion_in_the_first_steps_is_no_operation_to_guard(make_history, make_finding):
    root = make_finding("loss.non_finite", 4, module="h", tensor="output", batch=4)
    history = make_history([0.8, 30.0, 9e8, 1e27, NAN], optimizer={"name": "SGD", "learning_rate": 0.01})
    causes = [c.code for c in diagnose([root], root, history, None).causes]
    assert causes == ["learning_rate_too_high", "unscaled_inputs"]


def test_bad_validation_points_to_the_validation_data(make_history, make_finding):
    root = make_finding("metric.non_finite", 42, tensor="val_loss")
    history = make_history(around(0.5, 200), epochs={"val_loss": [NAN] * 4}, optimizer=ADAM)
    cause = diagnose([root], root, history, None).causes[0]
    assert cause.code == "corrupted_batch"
    assert "validation data" in cause.remedy
    assert "the training loss is finite" in cause.evidence[0]


def test_a_rate_at_the_edge_of_the_band_is_no_issue(make_history):
    history = make_history(optimizer={"name": "SGD", "learning_rate": 0.2, "momentum": 0.9})
    assert diagnose([], None, history, None).config_issues == ()


def test_too_few_updates(make_history, make_finding):
    root = make_finding("loss.no_learning", 20)
    history = make_history(around(2.3, 20), optimizer=ADAM, max_epochs=1)
    diagnosis = diagnose([root], root, history, None)
    assert diagnosis.likely_cause == "too_few_updates"
    assert "from 1 to 10" in diagnosis.causes[0].remedy


def overfitting(make_history, make_finding, epochs=None, model=None, optimizer=None, loss=None, **facts):
    root = make_finding("metric.overfitting", 300, "warning")
    history = make_history(
        loss or [*around(2.3, 10), *around(0.4, 290)],
        epochs=epochs or FALLING,
        optimizer={**ADAM, **(optimizer or {})},
        model={"name": "MLP", **(model or {})},
        **{"trivial_loss": 2.3, **facts},
    )
    return diagnose([root], root, history, None)


def test_overfitting_by_parameters_per_sample(make_history, make_finding):
    large = {"parameters": 640_000, "trainable_parameters": 640_000}
    diagnosis = overfitting(make_history, make_finding, model=large, train_samples=200)
    assert [c.code for c in diagnosis.causes] == ["too_little_data_for_capacity", "too_little_regularization"]
    assert "160,000 instead of 640,000" in diagnosis.causes[0].remedy

    small = {"parameters": 500, "trainable_parameters": 500}
    diagnosis = overfitting(make_history, make_finding, model=small, train_samples=5000)
    assert diagnosis.likely_cause == "too_little_regularization"


@pytest.mark.parametrize(
    ("model", "optimizer", "patience", "has", "has_not"),
    [
        (
            {"dropout": None, "normalization": False},
            {"weight_decay": 0.0},
            None,
            ["Add dropout of 0.3", "weight decay", "batch normalization", "patience=5", "augmented data"],
            ["aise"],
        ),
        ({"dropout": 0.5, "normalization": False}, {"weight_decay": 0.0}, 5, ["Add weight decay"], ["dropout", "stop"]),
        (
            {"dropout": 0.1, "normalization": True},
            {"weight_decay": 0.01},
            None,
            ["Add early stopping", "raise dropout from 0.1 to 0.3"],
            ["weight", "normal"],
        ),
        ({"dropout": 0.1, "normalization": True}, {"weight_decay": 0.01}, 3, ["Raise dropout from 0.1"], ["dd "]),
        (
            {"dropout": 0.3, "normalization": True},
            {"weight_decay": 0.001},
            3,
            ["Raise weight decay from 0.001 to 0.01"],
            ["dropout"],
        ),
        (
            {"dropout": 0.3, "normalization": True, "weight_penalty": "l2 0.01"},
            {"weight_decay": 0.0},
            3,
            ["more or augmented data"],
            ["weight", "Add"],
        ),
    ],
)
def test_the_remedy_looks_at_what_is_there(model, optimizer, patience, has, has_not):
    facts = Facts(model=ModelFacts("Net", 100, 100, **model), optimizer=OptimizerFacts("SGD", **optimizer))
    facts.patience = patience
    remedy = regularize(Case([], None, History(facts=facts), None))
    assert all(words in remedy for words in has), remedy
    assert not any(words in remedy for words in has_not), remedy


def test_a_log_of_an_unknown_model_gets_all_of_them():
    remedy = regularize(Case([], None, History(), None))
    assert "what the model has not yet: dropout of 0.3, weight decay of 0.01, batch normalization" in remedy


def test_a_lower_rate_comes_with_its_reason():
    evidence = {"update_ratio": 3.1, "healthy_ratio": 1e-3}
    finding = Finding("update.too_large", Severity.WARNING, 3, 0, "Large.", evidence=evidence)
    facts = Facts(optimizer=OptimizerFacts("SGD", 0.5))
    remedy = lower_learning_rate(Case([finding], finding, History(facts=facts), None))
    assert remedy == ("Lower the learning rate from 0.5 to 0.01: the update-to-weight ratio was 3.1, healthy is 0.001.")


def test_memorised_noise_is_no_signal(make_history, make_finding):
    epochs = {"train_loss": [2.3, 2.1, 1.8, 1.4, 1.0], "val_loss": [2.32, 2.4, 2.6, 2.9, 3.4]}
    large = {"parameters": 640_000, "trainable_parameters": 640_000}
    diagnosis = overfitting(make_history, make_finding, epochs=epochs, model=large, train_samples=200)
    assert diagnosis.likely_cause == "no_signal"
    assert "never better than 2.32" in diagnosis.causes[0].evidence[0]


@pytest.mark.parametrize(
    "facts",
    [
        {"model": {"parameters": 640_000, "trainable_parameters": 64_000}},
        {"model": {"parameters": 640_000, "trainable_parameters": 640_000}, "loss": [0.5] * 20, "trivial_loss": 2.3},
    ],
    ids=["frozen body", "good from the start"],
)
def test_good_weights_are_not_made_smaller(make_history, make_finding, facts):
    epochs = {"train_loss": [0.5, 0.3, 0.1, 0.05, 0.01], "val_loss": [0.4, 0.35, 0.5, 0.7, 0.9]}
    causes = overfitting(make_history, make_finding, epochs=epochs, train_samples=200, **facts).causes
    remedies = {cause.code: cause.remedy for cause in causes}
    assert "Train fewer of the layers" in remedies["too_little_data_for_capacity"]
    assert not any("smaller model" in remedy for remedy in remedies.values())


def test_an_exception_names_its_cause(make_history, make_finding):
    root = make_finding("run.exception", 3, "fatal", "Training raised RuntimeError: shapes.")
    error = ExceptionFacts(
        "RuntimeError",
        "mat1 and mat2 shapes cannot be multiplied (32x64 and 128x10)",
        frame="train.py:12 in forward: return self.head(x)",
    )
    cause = diagnose([root], root, make_history(around(1, 20), optimizer=ADAM), error).causes[0]
    assert cause.code == "shape_mismatch"
    assert "expects 128 features and gets 64" in cause.remedy
    assert "train.py:12" in cause.remedy


def test_out_of_memory_suggests_half_the_batch(make_history, make_finding):
    root = make_finding("run.exception", 3, "fatal")
    error = ExceptionFacts("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB")
    cause = diagnose([root], root, make_history(batch_size=64), error).causes[0]
    assert cause.code == "batch_size_too_large"
    assert "from 64 to 32 and accumulate 2" in cause.remedy


def test_an_interrupt_is_said_plainly(make_history, make_finding):
    root = make_finding("run.interrupted", 3, "warning", "The run was interrupted at step 3 by KeyboardInterrupt.")
    diagnosis = diagnose([root], root, make_history(), ExceptionFacts("KeyboardInterrupt", "", interrupt=True))
    assert diagnosis.likely_cause == "interrupted"
    assert diagnosis.summary == root.message
    assert diagnose([root], root, make_history(), None).likely_cause == "interrupted"


@pytest.mark.parametrize("code", sorted(FINDINGS))
def test_any_root_is_survived_with_nothing_known(make_history, make_finding, code):
    root = make_finding(code, 0)
    diagnosis = diagnose([root], root, make_history(), None)
    assert diagnosis.summary
    assert len(diagnosis.causes) <= 3


@pytest.mark.parametrize(
    "loss", [[], [NAN], [NAN] * 20, [math.inf, 1.0], [0.0] * 30, [-5.0, -4.0, -3.0] * 9, [1e300] * 9]
)
def test_odd_curves_are_survived(make_history, make_finding, loss):
    for code in ("loss.non_finite", "loss.divergence", "loss.no_learning"):
        root = make_finding(code, len(loss))
        odd = {"name": "SGD", "learning_rate": NAN, "momentum": 1.0}
        diagnosis = diagnose([root], root, make_history(loss, loss, optimizer=odd, trivial_loss=0.0), None)
        assert all(0 <= c.confidence <= 1 for c in diagnosis.causes)


def test_causes_are_ordered_and_confidences_add_up_to_less_than_one(make_history, make_finding):
    large = {"parameters": 640_000, "trainable_parameters": 640_000}
    causes = overfitting(make_history, make_finding, model=large, train_samples=200).causes
    confidences = [c.confidence for c in causes]
    assert confidences == sorted(confidences, reverse=True)
    assert sum(confidences) < 1
    assert all(c.evidence and c.remedy for c in causes)


def test_validation_that_is_far_off_from_the_start_is_a_mismatch(make_history, make_finding):
    train, val = [0.6 - 0.02 * i for i in range(20)], [50.0 + 5 * i for i in range(20)]
    history = make_history(
        epochs={"train_loss": train, "val_loss": val}, trivial_loss=0.65, model={"name": "Net", "dropout": None}
    )
    causes = diagnose([f := make_finding("metric.overfitting", 99)], f, history, None).causes
    assert causes[0].code == "train_validation_mismatch"


def test_clipping_that_leaves_nothing_is_named_with_a_limit(make_history, make_finding):
    history = make_history(
        [2.3] * 400, [2.5] * 400, optimizer={**SGD, "clipping": "norm 1e-06"}, trivial_loss=2.3, max_epochs=4
    )
    cause = diagnose([f := make_finding("loss.no_learning", 399)], f, history, None).causes[0]
    assert cause.code == "learning_rate_too_low"
    assert cause.remedy.startswith("Raise the clipping limit from 1e-6")


def test_a_penalty_that_shrank_the_weights_is_named_with_its_factor(make_history, make_finding):
    history = make_history([2.3] * 400, optimizer=ADAM, model={"name": "Net", "weight_penalty": "L2 1"})
    for step, norm in ((5, 10.0), (300, 0.2)):
        history.add_internals(Internals(step, layers=(LayerReading("a", weight_norm=norm),)))
    cause = diagnose([f := make_finding("loss.no_learning", 399)], f, history, None).causes[0]
    assert cause.code == "too_much_regularization"
    assert "L2 penalty from 1 to" in cause.remedy


def test_a_summed_loss_is_evidence_for_large_updates(make_history, make_finding):
    history = make_history([1.0 * 3**i for i in range(30)], optimizer=SGD, batch_size=64)
    history.facts.output.loss_is_summed = True
    cause = diagnose([f := make_finding("loss.divergence", 29)], f, history, None).causes[0]
    assert cause.code == "learning_rate_too_high"
    assert any("the sum over the 64 samples" in e for e in cause.evidence)
    assert cause.remedy.startswith("Average the loss")


def test_a_schedule_that_ends_too_early_is_a_rate_that_is_too_low(make_history, make_finding):
    rates = [0.05 * 0.1**i for i in range(25)]
    history = make_history([2.25] * 400, [0.5] * 400, epochs={"learning_rate": rates}, optimizer=SGD, max_epochs=25)
    cause = diagnose([f := make_finding("loss.no_learning", 399)], f, history, None).causes[0]
    assert cause.code == "learning_rate_too_low"
    assert "once per epoch" in cause.remedy


def test_a_schedule_that_ends_with_the_run_is_none(make_history, make_finding):
    rates = [0.05 * (1 - i / 25) for i in range(25)]
    history = make_history([2.25] * 400, [0.5] * 400, epochs={"learning_rate": rates}, optimizer=SGD, max_epochs=25)
    causes = diagnose([f := make_finding("loss.no_learning", 399)], f, history, None).causes
    assert all(c.code != "learning_rate_too_low" for c in causes)


@pytest.mark.parametrize(
    ("code", "cause", "remedy"),
    [
        ("data.constant_feature", "constant_inputs", "just before the model"),
        ("data.repeated_batch", "shared_random_state", "worker_init_fn"),
        ("model.no_nonlinearity", "missing_nonlinearity", "activation"),
        ("data.imbalance", "class_imbalance", ""),
    ],
)
def test_findings_about_data_and_structure_have_a_cause(make_history, make_finding, code, cause, remedy):
    root = make_finding(code, 0, "warning", "Batch 0: all 2,048 values of the input are 0.")
    history = make_history(around(2.3, 100), optimizer=ADAM, class_counts={0: 980, 1: 20}, target_kind="classes")
    diagnosis = diagnose([root], root, history, None)
    assert diagnosis.likely_cause == cause
    assert diagnosis.causes[0].evidence
    assert remedy in diagnosis.causes[0].remedy


@pytest.mark.parametrize(
    ("reaches", "cause"), [(False, "detached_graph"), (None, "detached_graph"), (True, "gradients_cleared_early")]
)
def test_without_any_gradient_the_loss_is_cut_off_or_gradients_were_cleared(make_history, make_finding, reaches, cause):
    root = make_finding("gradient.missing", 40, "warning")
    setup = SetupFacts(updates_without_gradient=40, loss_reaches_parameters=reaches)
    epochs = {"train_loss": [2.3] * 6, "val_loss": [2.31] * 6}
    history = make_history(around(2.3, 100), epochs=epochs, optimizer=ADAM, setup=setup)
    assert diagnose([root], root, history, None).likely_cause == cause


def test_batch_normalization_of_single_samples(make_history, make_finding):
    root = make_finding("loss.no_learning", 400)
    model = {"normalization": True, "batch_normalization": True}
    history = make_history(around(2.3, 400), optimizer=ADAM, model=model, batch_size=1, trivial_loss=2.3)
    assert diagnose([root], root, history, None).likely_cause == "batch_size_too_small"


def test_an_enormous_first_loss_of_ordinary_inputs_is_the_weights(make_history, make_finding):
    root = make_finding("loss.non_finite", 1)
    inputs = InputFacts(-4.0, 4.0, 0.0, 1.0, samples=64)
    history = make_history(
        [404.0, NAN], optimizer=SGD, inputs=inputs, trivial_loss=0.69, target_kind="classes", batch_size=32
    )
    causes = [c.code for c in diagnose([root], root, history, None).causes]
    assert causes[0] == "bad_initialization"
    assert "unscaled_inputs" not in causes


def test_tiny_updates_are_a_low_rate_whatever_the_rate_says(make_history, make_finding):
    small = Finding("update.too_small", Severity.WARNING, 90, 2, "Small.", evidence={"update_ratio": 1e-6})
    root = make_finding("loss.no_learning", 300)
    epochs = {"val_loss": [2.31, 2.3, 2.31, 2.3]}
    history = make_history(around(2.3, 300), around(1.0, 300), epochs, optimizer=SGD, trivial_loss=2.3)
    assert diagnose([small, root], root, history, None).likely_cause == "learning_rate_too_low"


@pytest.mark.parametrize(
    ("rate", "norm", "causes"),
    [
        (1.0, 2.0, ["learning_rate_too_high", "dead_units"]),
        (0.01, 2.0, ["dead_units", "bad_initialization"]),
        (0.01, 0.0, ["bad_initialization", "dead_units"]),
    ],
    ids=["high rate", "usual rate", "zero weights"],
)
def test_what_made_units_dead(make_history, rate, norm, causes):
    """The loss is calm, since a dead net puts out the same whatever it is shown: that speaks against nothing."""
    root = Finding("activation.dead", Severity.WARNING, 120, 2, "Units are off.", evidence={"since_step": 50.0})
    history = make_history(around(2.36, 300), optimizer=SGD | {"learning_rate": rate}, trivial_loss=2.3)
    history.add_internals(Internals(0, layers=tuple(LayerReading(name, weight_norm=norm) for name in "abc")))
    named = [c.code for c in diagnose([root], root, history, None).causes]
    assert named[: len(causes)] == causes
    assert ("learning_rate_too_high" in named) is (rate > 0.5)


def test_weights_of_sixteen_bits_are_named(make_history, make_finding):
    root = make_finding("loss.non_finite", 1)
    history = make_history([1.1, NAN], optimizer=ADAM, model={"dtype": "float16"})
    cause = diagnose([root], root, history, None).causes[0]
    assert cause.code == "mixed_precision_overflow"
    assert "epsilon of 1e-8 is zero" in cause.evidence[0]
    assert "Keep the weights in float32" in cause.remedy


def test_decay_that_shrinks_the_weights_makes_updates_large(make_history, make_finding):
    root = make_finding("update.too_large", 300, "warning")
    history = make_history(around(1.1, 300), optimizer={"name": "SGD", "learning_rate": 0.1, "weight_decay": 1.0})
    assert diagnose([root], root, history, None).likely_cause == "too_much_regularization"


def test_classes_that_training_lacks_are_a_matter_of_the_split(make_history, make_finding):
    root = replace(make_finding("data.imbalance", 84, "warning"), evidence={"validation_share": 1.0})
    cause = diagnose([root], root, make_history(around(0.1, 90), class_counts={0: 60, 1: 70}), None).causes[0]
    assert cause.code == "train_validation_mismatch"
    assert "stratify" in cause.remedy


def test_labels_that_are_all_the_same_are_bad(make_history, make_finding):
    root = replace(make_finding("data.imbalance", 84, "warning"), evidence={"only_class": 0.0})
    assert diagnose([root], root, make_history(around(0.1, 90)), None).likely_cause == "bad_labels"
