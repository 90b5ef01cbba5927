from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from failguard import ExperimentManager
from failguard.errors import ConfigurationError


def draws(config: Any) -> dict[str, float]:
    return {"python": random.random(), "numpy": float(np.random.random())}


def test_a_seed_is_set_and_recorded() -> None:
    manager = ExperimentManager("churn", sinks=[])
    first, second = (manager.run_experiment("a", "b", {"lr": 1}, draws, seed=7) for _ in range(2))
    other = manager.run_experiment("a", "b", {"lr": 1}, draws, seed=np.int64(8))
    assert first == second != other
    assert first.report.run.config == {"lr": 1, "seed": 7}
    assert first.report.notes == []


def test_the_configs_own_seed_stays() -> None:
    result = ExperimentManager("churn", sinks=[]).run_experiment("a", "b", {"seed": 1}, draws, seed=7)
    assert result.report.run.config == {"seed": 1}
    assert any("seed is 7" in note for note in result.report.notes)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "1", True])
def test_seeds_that_cannot_be_used(seed: Any) -> None:
    with pytest.raises(ConfigurationError, match="seed="):
        ExperimentManager("churn", sinks=[]).run_experiment("a", "b", {}, draws, seed=seed)


def test_without_a_seed_nothing_is_touched() -> None:
    state = random.getstate()
    ExperimentManager("churn", sinks=[]).run_experiment("a", "b", {}, lambda c: None)
    assert random.getstate() == state
