from __future__ import annotations

import math

import pytest

from failguard.core.facts import Facts, ModelFacts, OptimizerFacts
from failguard.diagnosis import check_config, suggest_fixes


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
        (facts({"name": "Adam", "weight_decay": 2.0}), "it may keep the model from fitting"),
        (facts({"name": "Adam", "clipping": "norm 1e-06"}), "leaves next to nothing"),
        (facts(model={"normalization": True}, batch_size=1), "batch size 1 with a model that normalizes"),
        (facts(batch_size=500, train_samples=200), "only one update per epoch"),
        (facts(model={"trainable_parameters": 0}), "no trainable parameters"),
        (facts(model={"dropout": 0.9}), "dropout 0.9"),
        (facts(model={"output_width": 10}, target_kind="classes", class_counts={0: 1, 10: 1}), "labels go up to 10"),
        (facts(target_kind="classes", class_counts={-1: 1, 2: 1}), "labels go down to -1"),
        (facts(config={"betas": (0.999, 0.9)}), "betas 0.999 and 0.9: the second is usually the larger one"),
        (facts(config={"warmup_steps": 500}, max_steps=500), "warmup_steps 500 of 500 planned steps"),
        (facts(config={"train": {"num_warmup_steps": 900}}, max_epochs=2, steps_per_epoch=100), "of 200 planned"),
        (facts(config={"warmup_epochs": 5}, max_epochs=5), "warmup_epochs 5 of 5 planned epochs"),
        (facts(config={"warmup_ratio": 1.5}), "never gets to its full value"),
        (facts(accumulate_batches=64, steps_per_epoch=10), "less than one update per epoch"),
    ],
)
def test_suspicious_values_are_named_with_a_reason(given, words):
    issues = check_config(given)
    assert len(issues) == 1
    assert words in issues[0]
    assert len(suggest_fixes(None, given)) == 1, "the same row has the fix"


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
        facts(config={"warmup_steps": 500}, max_steps=5000),
        facts(config={"warmup_steps": 500, "warmup_epochs": 5, "lr_warmup": True}),
        facts({"name": "Adam", "clipping": "norm 1.0"}, config={"betas": [0.9, 0.999], "eps": 1e-8}),
    ],
)
def test_usual_values_are_left_alone(given):
    assert check_config(given) == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"lr": 10.0, "optimizer": "Adam"}, "learning rate 10"),
        ({"optimizer": {"name": "SGD", "lr": 50, "momentum": 0.9}}, "learning rate 50"),
        ({"optimizer.name": "x", "trainer": {"gradient_clip_val": 1e-9}}, "gradient clipping norm 1e-09"),
        ({"num_warmup_steps": 100, "max_steps": 10}, "num_warmup_steps 100"),
    ],
)
def test_a_plain_configuration_will_do(config, words):
    (issue,) = check_config(config)
    assert words in issue


@pytest.mark.parametrize("config", [{}, {"lr": "auto", "batch_size": None, 3: {"x": []}}, {"lr": True}])
def test_odd_configurations_are_survived(config):
    assert check_config(config) == []
    assert suggest_fixes(None, config) == []


def test_fixes_of_an_error_come_first():
    error = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    fixes = suggest_fixes(error, {"batch_size": 64, "lr": 10.0, "optimizer": "Adam"})
    assert fixes[0].startswith("Lower the batch size from 64 to 32")
    assert fixes[-1] == "Lower the learning rate to 0.001."
