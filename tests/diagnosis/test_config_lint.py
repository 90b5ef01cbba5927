from __future__ import annotations

import math

import pytest

from failguard.core.facts import Facts, ModelFacts, OptimizerFacts
from failguard.diagnosis.config_lint import check_config


def facts(optimizer=None, model=None, **others) -> Facts:
    return Facts(optimizer=OptimizerFacts(**(optimizer or {})), model=ModelFacts(**(model or {})), **others)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (facts({"name": "Adam", "learning_rate": 1.0}), "learning rate 1: 100 times the highest usual one for Adam"),
        (facts({"name": "SGD", "learning_rate": 0.5, "momentum": 0.9}), "as strong as 5 with momentum 0.9"),
        (facts({"name": "AdamW", "learning_rate": 1e-9}), "below the usual ones for AdamW"),
        (facts({"name": "SGD", "learning_rate": -0.1}), "must be a positive number"),
        (facts({"name": "SGD", "learning_rate": math.nan}), "must be a positive number"),
        (facts({"name": "SGD", "learning_rate": 0.0}), "nothing will be learned"),
        (facts({"name": "SGD", "momentum": 1.2}), "momentum 1.2: it must be at least 0 and below 1"),
        (facts({"name": "Adam"}, config={"optimizer": {"betas": (0.9, 1.0)}}), "betas.1 1"),
        (facts({"name": "Adam"}, config={"eps": 1e-16}), "eps 1e-16"),
        (facts({"name": "Adam", "weight_decay": -1e-4}), "a negative one makes the weights grow"),
        (facts({"name": "Adam", "weight_decay": 2.0}), "so strong that it may keep the model from fitting"),
        (facts({"name": "Adam", "clipping": "norm 1e-06"}), "leaves next to nothing"),
        (facts(model={"normalization": True}, batch_size=1), "batch size 1 with a model that normalizes"),
        (facts(batch_size=500, train_samples=200), "only one update per epoch"),
        (facts(model={"trainable_parameters": 0}), "no trainable parameters"),
        (facts(model={"dropout": 0.9}), "dropout 0.9"),
        (facts(model={"output_width": 10}, target_kind="classes", class_counts={0: 1, 10: 1}), "labels go up to 10"),
        (facts(target_kind="classes", class_counts={-1: 1, 2: 1}), "labels go down to -1"),
    ],
)
def test_suspicious_values_are_named_with_a_reason(given, words):
    issues = check_config(given)
    assert len(issues) == 1
    assert words in issues[0]


@pytest.mark.parametrize(
    "given",
    [
        facts(),
        facts({"name": "Adam", "learning_rate": 1e-3, "weight_decay": 0.01}, {"dropout": 0.5}, batch_size=32),
        facts({"name": "SGD", "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 5e-4}, train_samples=50_000),
        facts({"name": "AdamW", "learning_rate": 5e-5}),
        facts({"name": "SGD", "learning_rate": 0.0, "schedule": "LinearLR"}),
        facts({"name": "Adadelta", "learning_rate": 1.0}),
        facts({"name": "Adagrad", "learning_rate": 0.01}),
        facts({"name": "LBFGS", "learning_rate": 1.0}),
        facts({"name": "Something", "learning_rate": 1e9}),
        facts(target_kind="classes", class_counts={-100: 5, 0: 1, 1: 1}, model={"output_width": 2}),
        facts({"name": "Adam", "clipping": "norm 1.0"}, config={"betas": [0.9, 0.999], "eps": 1e-8}),
    ],
)
def test_usual_values_are_left_alone(given):
    assert check_config(given) == []
