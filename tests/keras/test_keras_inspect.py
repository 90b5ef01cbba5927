"""Facts of Keras objects."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import pytest

keras = pytest.importorskip("keras")

from failguard.keras.inspect import read_facts  # noqa: E402
from failguard.keras.loss import read_loss  # noqa: E402

pytestmark = pytest.mark.framework


def _model(loss: Any, optimizer: Any = "adam", units: int = 4) -> Any:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    model.compile(optimizer, loss)
    return model


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        ("mse", "mean_squared_error"),
        ("sparse_categorical_crossentropy", "sparse_categorical_crossentropy"),
        (keras.losses.SparseCategoricalCrossentropy(), "sparse_categorical_crossentropy"),
        (keras.losses.binary_crossentropy, "binary_crossentropy"),
        (None, None),
    ],
)
def test_one_name_for_a_loss_however_it_is_given(loss: Any, name: str | None) -> None:
    assert read_facts(_model(loss), {}).loss_name == name


@pytest.mark.parametrize(
    ("loss", "units", "trivial"),
    [
        ("sparse_categorical_crossentropy", 4, 1.3862943611),
        ("categorical_crossentropy", 10, 2.302585093),
        ("binary_crossentropy", 1, 0.69314718056),
        ("mse", 4, None),
        (keras.losses.CategoricalCrossentropy(label_smoothing=0.1), 4, None),
    ],
)
def test_the_loss_of_guessing(loss: Any, units: int, trivial: float | None) -> None:
    facts = read_facts(_model(loss, units=units), {})
    assert facts.trivial_loss == pytest.approx(trivial)
    assert facts.trivial_loss_source == (None if trivial is None else "output_width")
    assert read_loss(_model(loss)).has_class_prior == (trivial is not None)


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (lambda: keras.optimizers.AdamW(0.003, weight_decay=0.01), ("AdamW", 0.003, None, 0.01, None)),
        (lambda: keras.optimizers.SGD(0.1, momentum=0.9, clipvalue=0.5), ("SGD", 0.1, 0.9, None, "value 0.5")),
        (
            lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, clipnorm=2.0)),
            ("SGD", 0.1, 0.0, None, "norm 2.0 of each variable"),
        ),
    ],
)
def test_optimizers(optimizer: Any, expected: tuple[Any, ...]) -> None:
    made = optimizer()
    facts = read_facts(_model("mse", made), {"epochs": 3, "steps": 7})
    seen = facts.optimizer
    assert (seen.name, seen.learning_rate, seen.momentum, seen.weight_decay, seen.clipping) == expected
    assert facts.loss_scaled == isinstance(made, keras.optimizers.LossScaleOptimizer)
    assert facts.planned_steps == 21


def test_a_schedule_of_ones_own_need_not_be_serializable() -> None:
    class Own(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return 0.2 / (1.0 + keras.ops.cast(step, "float32"))

    seen = read_facts(_model("mse", keras.optimizers.SGD(Own(), momentum=0.9)), {}).optimizer
    assert (seen.name, seen.learning_rate, seen.momentum, seen.schedule) == ("SGD", 0.2, 0.9, "Own")


def test_a_model_that_is_not_built_has_no_numbers() -> None:
    model = keras.Sequential([keras.layers.Dense(4)])
    model.compile("adam", "mse")
    assert read_facts(model, {}).model.parameters is None
