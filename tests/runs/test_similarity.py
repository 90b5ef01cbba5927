from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failguard.runs.memory_settings import FailureMemory
from failguard.runs.similarity import CLOSE, changes, likeness, matters, values_of, what

MEMORY = FailureMemory()
SETUP = {"model": "Net", "optimizer": "SGD", "learning_rate": 0.1, "loss": "mse", "parameters": 1000}


def values(config: dict[str, Any], setup: dict[str, Any] | None = None, memory: FailureMemory = MEMORY) -> Any:
    return values_of(config, SETUP if setup is None else setup, memory)


NOTHING = (
    "seed data.seed random_state dataSeed log_dir ckpt_path trainer.devices num_workers gpu run_name name trial_id"
    " local_rank wandb_project tags verbose notes output_dir api_key model.token run.output_dir pin_memory hostname"
    " log_every_n_steps"
)
SOMETHING = (
    "lr optimizer.name model_name dataset_name batch_size weight_decay max_epochs catalogue model.num_layers"
    " warmup_steps dropout precision direction profile token_dim timesteps"
)


@pytest.mark.parametrize("name", NOTHING.split())
def test_names_that_say_nothing(name: str) -> None:
    assert not matters(name, MEMORY)


@pytest.mark.parametrize("name", SOMETHING.split())
def test_names_that_matter(name: str) -> None:
    assert matters(name, MEMORY)


def test_names_can_be_chosen() -> None:
    assert not matters("aug_flip", FailureMemory(ignore_keys=["aug_*"]))
    assert not matters("data.version", FailureMemory(ignore_keys=["data.*"]))
    assert not matters("data.version", FailureMemory(ignore_keys=["version"]))
    only = FailureMemory(keys=["lr", "model.*"])
    assert [n for n in ("lr", "opt.lr", "model.width", "width") if matters(n, only)] == ["lr", "opt.lr", "model.width"]
    assert set(values({"lr": 0.1, "width": 3}, memory=only)) == {"lr", "model", "optimizer"}


def test_values_are_made_comparable() -> None:
    found = values(
        {"lr": "0.1", "flag": True, "sizes": [64, 32], "empty": None, "data": "/mnt/a/b", "store": "s3://x/y"}
        | {
            "act": " ReLU ",
            "fn": "<function f at 0x7f01aabbccdd>",
            "nan": math.nan,
            "key": "[redacted]",
            "huge": 10**400,
        }
    )
    assert found == {
        "lr": 0.1, "flag": True, "sizes": "[64, 32]", "act": "relu", "model": "net", "optimizer": "sgd",
        "loss": "mse", "parameters": 1000.0,
    }  # fmt: skip


def test_a_value_is_counted_once_under_the_users_name() -> None:
    assert "learning_rate" not in values({"opt.lr": 0.1})
    assert values({"lr": 0.1, "optimizer": "adam"})["optimizer"] == "sgd", "what was read from the optimizer is certain"
    assert values({"optim": "adam"}, {})["optimizer"] == "adam"
    assert values({"optimizer.name": "adam", "model.name": "big"}, {}) == {"optimizer": "adam", "model.name": "big"}


@pytest.mark.parametrize(
    ("a", "b", "agreement"),
    [
        (0.1, 0.1, 1.0), (0.1, 0.2, 0.699), (0.2, 0.1, 0.699), (1.0, 10.0, 0.0), (1.0, 1000.0, 0.0), (0.0, 1.0, 0.0),
        (0.0, 0.0, 1.0), (-1.0, 1.0, 0.0), (-1.0, -2.0, 0.699), (1e-320, 1e300, 0.0), (5e-324, 1e-323, 0.699),
        (1e308, 5e-324, 0.0), ("relu", "relu", 1.0), ("relu", "gelu", 0.0), (True, True, 1.0), (True, False, 0.0),
        (True, 1.0, 0.0), (1.0, "one", 0.0),
    ],
)  # fmt: skip
def test_agreement(a: Any, b: Any, agreement: float) -> None:
    assert likeness({"x": a}, {"x": b}).share == pytest.approx(agreement, abs=1e-3)


def test_another_model_or_optimizer_is_another_configuration() -> None:
    assert likeness({"model": "net", "lr": 0.1}, {"model": "net", "lr": 0.1}).share == 1.0
    assert likeness({"model": "net", "lr": 0.1}, {"model": "other", "lr": 0.1}).share == 0.0
    assert likeness({"optimizer": "sgd", "lr": 0.1}, {"optimizer": "adam", "lr": 0.1}).share == 0.0
    assert likeness({"optimizer": "sgd", "lr": 0.1}, {"lr": 0.1}).share == 1.0, "not known there"
    assert likeness({"model": "net"}, {"model": "net"}).share == 0.0, "nothing to compare"


def test_values_that_only_one_side_has() -> None:
    assert likeness({"lr": 0.1, "clip": 1.0}, {"lr": 0.1}).share == 0.5, "the new run sets something"
    assert likeness({"lr": 0.1}, {"lr": 0.1, "logged_by_others": 3}).share == 1.0
    assert likeness({"lr": 0.1, "batch_size": 32.0}, {"lr": 0.1}).share == 1.0, "the adapter did not see it there"
    assert likeness({"lr": 0.1}, {"learning_rate": 0.1}).share == 1.0, "under another usual name"


def test_changes_name_the_important_ones_first() -> None:
    old, new = {"width": 64.0, "lr": 0.3, "same": 1.0}, {"width": 128.0, "lr": 0.03, "same": 1.0, "warmup": 10.0}
    found = changes(old, new, {"learning_rate"})
    assert list(found) == ["lr", "width", "warmup"]
    assert found["lr"] == (0.3, 0.03)
    assert found["warmup"] == (None, 10.0)
    assert changes({"loss": "mse"}, {}) == {}, "what an adapter could not read is no change"


def test_meanings() -> None:
    assert [what(n) for n in ("lr", "opt.base_lr", "grad-clip", "optimizer.name", "width")] == [
        "learning_rate", "learning_rate", "clipping", "optimizer", "width"
    ]  # fmt: skip


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=300), st.lists(st.integers(), max_size=3)
)
configs = st.dictionaries(st.text(max_size=30), scalars, max_size=6)


@given(configs, configs)
def test_any_configuration_is_compared_within_bounds(a: dict[str, Any], b: dict[str, Any]) -> None:
    one, other = values_of(a, {}, MEMORY), values_of(b, {}, MEMORY)
    found = likeness(one, other)
    assert 0.0 <= found.share <= 1.0
    assert all(0.0 <= share <= 1.0 for share in found.agreement.values())
    assert likeness(one, one).share == (1.0 if set(one) - {"model", "optimizer"} else 0.0)
    assert changes(one, one) == {}


@given(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300))
def test_agreement_is_symmetric_and_close_means_a_factor_of_two(a: float, b: float) -> None:
    there, back = likeness({"x": a}, {"x": b}).share, likeness({"x": b}, {"x": a}).share
    assert there == pytest.approx(back, abs=1e-9)
    if max(a, b) <= 1.99 * min(a, b):
        assert there >= CLOSE
    if max(a, b) > 2.1 * min(a, b):
        assert there < CLOSE
