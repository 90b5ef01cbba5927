"""One scenario in Keras."""

from __future__ import annotations

from typing import Any

import keras

from failguard.demo.scenarios import BATCH_SIZE, Digits, Scenario
from failguard.keras import FailGuard
from failguard.report.run_report import RunReport


def train(scenario: Scenario, digits: Digits, keywords: dict[str, Any]) -> RunReport:
    """Run a scenario under a guard.

    Args:
        scenario: What to train.
        digits: Its data.
        keywords: Further keywords of FailGuard: sinks, names.

    Returns:
        The guard's report.
    """
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(units, activation="relu") for units in scenario.hidden]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])
    kind = keras.optimizers.Adam if scenario.optimizer == "adam" else keras.optimizers.SGD
    model.compile(
        optimizer=kind(learning_rate=scenario.learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    guard = FailGuard(config=scenario.config, **scenario.guard, **keywords)
    model.fit(
        digits.x_train,
        digits.y_train,
        validation_data=(digits.x_validation, digits.y_validation),
        batch_size=BATCH_SIZE,
        epochs=scenario.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[guard],
    )
    return guard.report
