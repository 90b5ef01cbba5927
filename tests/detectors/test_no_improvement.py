from __future__ import annotations

import pytest

from failguard.detectors.base import Example, replay
from failguard.detectors.metric_no_improvement import MetricNoImprovement
from failguard.errors import ConfigurationError


@pytest.mark.parametrize(("patience", "epoch"), [(0, 3), (1, 3), (2, 4), (3, 5)])
def test_it_is_due_in_the_epoch_in_which_patience_is_used_up(patience: int, epoch: int) -> None:
    """Best in epoch 2; Keras and Lightning stop with the same numbers."""
    example = Example("", epochs={"val_loss": [1.0, 0.8, 0.5, 0.6, 0.6, 0.7, 0.7]})
    first = replay(MetricNoImprovement(patience), example)[0]
    assert first.epoch == epoch
    assert first.evidence["best_epoch"] == 2
    assert first.evidence["best_value"] == 0.5


def test_epochs_without_the_metric_do_not_count() -> None:
    example = Example("", epochs={"val_loss": [1.0, 1.0], "train_loss": [1.0] * 10})
    assert replay(MetricNoImprovement(2), example) == []


@pytest.mark.parametrize("patience", [-1, 2.5, True, "3"])
def test_patience_is_checked(patience: object) -> None:
    with pytest.raises(ConfigurationError, match="whole number of epochs"):
        MetricNoImprovement(patience)  # type: ignore[arg-type]
