"""Configuration values that look wrong, whatever the run did."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from failguard.core.facts import Facts
from failguard.diagnosis.rates import band_of, effective_rate
from failguard.diagnosis.wording import count, number, times

__all__ = ["MOST_DROPOUT", "check_config", "clipping_limit"]

# Above these the penalty or noise leaves little to learn from. Defaults: AdamW 0.01, SGD recipes 1e-4 to 5e-4; L2 of
# 0.1 and dropout of 0.7 to 0.8 are causes in the published failing programs.
MOST_DECAY = 0.1
MOST_DROPOUT = 0.7
LEAST_EPSILON = 1e-12  # Adam's 1e-16 is below what float32 can add to a number near 1e-8
LEAST_CLIP = 1e-4
IGNORED_LABEL = -100  # torch's ignore_index


def check_config(facts: Facts) -> list[str]:
    """Look for suspicious values.

    Args:
        facts: What is known of the run; unknown values are passed over.

    Returns:
        One sentence each, with the value and the reason.
    """
    return [issue for check in _CHECKS for issue in check(facts)]


def _learning_rate(facts: Facts) -> Iterator[str]:
    optimizer = facts.optimizer
    rate, band, effective = optimizer.learning_rate, band_of(optimizer), effective_rate(optimizer)
    if rate is None:
        return
    if not math.isfinite(rate) or rate < 0:
        yield f"learning rate {number(rate)}: it must be a positive number."
    elif rate == 0 and not optimizer.schedule:
        yield "learning rate 0: nothing will be learned."
    elif band is not None and effective is not None:
        name = optimizer.name[:60]
        momentum = (
            "" if effective == rate else f", as strong as {number(effective)} with momentum {optimizer.momentum:g}"
        )
        if effective > 1.001 * band.high:  # 0.2 / (1 - 0.9) is a little above 2
            yield (
                f"learning rate {number(rate)}{momentum}: {times(effective / band.high)} the highest usual one for "
                f"{name} ({number(band.low)} to {number(band.high)})."
            )
        elif effective < band.low and not optimizer.schedule:  # a warm-up begins low
            yield (
                f"learning rate {number(rate)}{momentum}: below the usual ones for {name} "
                f"({number(band.low)} to {number(band.high)})."
            )


def _momentum(facts: Facts) -> Iterator[str]:
    betas = {name: value for name, value in _leaves(facts.config) if re.fullmatch(r"beta_?[12]|betas\.[01]", name)}
    values = {"momentum": facts.optimizer.momentum, **betas}
    for name, value in values.items():
        if isinstance(value, int | float) and not 0 <= value < 1:
            yield f"{name} {number(value)}: it must be at least 0 and below 1."


def _epsilon(facts: Facts) -> Iterator[str]:
    if "ada" not in facts.optimizer.name.lower():
        return
    for name, value in _leaves(facts.config):
        if name in ("eps", "epsilon", "adam_epsilon") and isinstance(value, int | float) and value < LEAST_EPSILON:
            yield f"{name} {number(value)}: too small to keep divisions in range (usual: 1e-8)."


def _weight_decay(facts: Facts) -> Iterator[str]:
    decay = facts.optimizer.weight_decay
    if decay is None:
        return
    if decay < 0 or not math.isfinite(decay):
        yield f"weight decay {number(decay)}: a negative one makes the weights grow; it must be at least 0."
    elif decay > MOST_DECAY:
        yield f"weight decay {number(decay)}: so strong that it may keep the model from fitting (usual: 0.0001 to 0.1)."


def _clipping(facts: Facts) -> Iterator[str]:
    limit = clipping_limit(facts)
    if limit is not None and limit < LEAST_CLIP:
        yield f"gradient clipping {facts.optimizer.clipping}: leaves next to nothing (usual: norm 0.5 to 5)."


def clipping_limit(facts: Facts) -> float | None:
    """The number at which gradients are clipped, of ``"norm 1.0"`` for example; ``None`` without clipping."""
    match = re.search(r"(?:norm|value) ([-+\d.eE]+)", facts.optimizer.clipping or "")
    try:
        return float(match.group(1)) if match else None
    except ValueError:
        return None


def _batch_size(facts: Facts) -> Iterator[str]:
    batch, samples = facts.batch_size, facts.train_samples
    if batch == 1 and facts.model.normalization:
        yield "batch size 1 with a model that normalizes: batch normalization needs more than one sample per batch."
    if batch and samples and batch >= samples and samples > 1 and not (facts.max_epochs and facts.max_epochs > 100):
        yield f"batch size {count(batch)} for {count(samples)} training samples: only one update per epoch."


def _model(facts: Facts) -> Iterator[str]:
    model = facts.model
    if model.trainable_parameters == 0:
        yield "the model has no trainable parameters: nothing can be learned."
    if model.dropout is not None and model.dropout >= MOST_DROPOUT:
        yield f"dropout {number(model.dropout)}: little of the signal is left (usual: 0.1 to 0.5)."


def _labels(facts: Facts) -> Iterator[str]:
    width = facts.model.output_width
    if facts.target_kind != "classes" or not facts.class_counts:
        return
    low, high = min(facts.class_counts), max(facts.class_counts)
    if width is not None and width > 1 and high >= width:
        yield f"labels go up to {high}, but the output has {width} units: labels must be 0 to {width - 1}."
    if low < 0 and low != IGNORED_LABEL:
        yield f"labels go down to {low}: classes are numbered from 0."


_CHECKS: tuple[Callable[[Facts], Iterator[str]], ...] = (
    _learning_rate,
    _momentum,
    _epsilon,
    _weight_decay,
    _clipping,
    _batch_size,
    _model,
    _labels,
)


def _leaves(config: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Values with their last key in lower case; items of lists as ``key.0``."""
    for key, value in config.items():
        name = f"{prefix}{key}".lower()
        if isinstance(value, Mapping):
            if depth < 8:
                yield from _leaves(value, depth=depth + 1)
        elif isinstance(value, list | tuple):
            yield from ((f"{name}.{i}", v) for i, v in enumerate(value[:2]))
        else:
            yield name, value
