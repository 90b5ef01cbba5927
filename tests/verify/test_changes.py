"""From a cause and its remedy to a change, with the numbers of the remedy."""

from __future__ import annotations

import pytest

from failguard.core.diagnosis import Cause
from failguard.core.facts import Facts, ModelFacts, OptimizerFacts, SetupFacts
from failguard.diagnosis.causes import KNOWLEDGE
from failguard.verify.changes import _CHANGES, Change, change_for


def facts(**more: object) -> Facts:
    return Facts(optimizer=OptimizerFacts("SGD", 0.5, 0.9, 1.0), **more)  # type: ignore[arg-type]


def change(code: str, remedy: str = "", of: Facts | None = None) -> Change | None:
    return change_for(Cause(code, 0.9, (), remedy), of or facts())


def test_the_numbers_are_those_of_the_remedy() -> None:
    lower = change("learning_rate_too_high", "Lower the learning rate from 0.5 to 0.01.")
    assert lower is not None
    assert lower.rate_factor == pytest.approx(0.02)
    assert lower.what == "with the learning rate 0.01 instead of 0.5"
    clip = change("missing_gradient_clipping", "Clip the gradient norm at 3: Trainer(gradient_clip_val=3).")
    assert clip is not None
    assert clip.clip_norm == 3.0
    dropout = change("too_much_regularization", "", facts(model=ModelFacts(dropout=0.9)))
    assert dropout is not None
    assert (dropout.dropout, dropout.weight_decay) == (0.3, None)
    decay = change("too_much_regularization")
    assert decay is not None
    assert decay.weight_decay == 0.01


@pytest.mark.parametrize(
    ("code", "remedy", "of"),
    [
        ("learning_rate_too_high", "Average the loss over the batch instead of adding it up.", None),
        ("learning_rate_too_low", "Let the schedule last for all 9 epochs.", None),
        ("learning_rate_too_high", "Lower the learning rate to a tenth.", Facts()),
        ("parameters_not_in_optimizer", "", facts(setup=SetupFacts(hidden=("layers.0.weight",)))),
        ("bad_labels", "Check the labels.", None),
        ("no_signal", "", None),
    ],
)
def test_what_needs_another_program_is_not_tried(code: str, remedy: str, of: Facts | None) -> None:
    assert change(code, remedy, of) is None


def test_every_change_belongs_to_a_cause() -> None:
    assert set(_CHANGES) <= {row.code for row in KNOWLEDGE}
