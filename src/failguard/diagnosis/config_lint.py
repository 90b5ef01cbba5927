"""Configuration values that look wrong, whatever the run did."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from failguard.core.facts import Facts
from failguard.diagnosis.rates import band_of, effective_rate, lower_rate, raised_rate
from failguard.diagnosis.wording import count, number, times

__all__ = ["MOST_DECAY", "MOST_DROPOUT", "ConfigIssue", "clipping_limit", "config_issues"]

# Above these the penalty or noise leaves little to learn from. Defaults: AdamW 0.01, SGD recipes 1e-4 to 5e-4; L2 of
# 0.1 and dropout of 0.7 to 0.8 are causes in the published failing programs.
MOST_DECAY = 0.1
MOST_DROPOUT = 0.7
LEAST_EPSILON = 1e-12  # Adam's 1e-16 is below what float32 can add to a number near 1e-8
LEAST_CLIP = 1e-4
IGNORED_LABEL = -100  # torch's ignore_index
USUAL_WARMUP = 0.1  # of the run, at most: what recipes of transformers use

Issue = tuple[str, str]  # the sentence, and what to set instead


@dataclass(frozen=True, slots=True)
class ConfigIssue:
    """A value that looks wrong.

    Attributes:
        text: A sentence with the value and the reason.
        fix: What to set instead.
    """

    text: str
    fix: str


def config_issues(facts: Facts) -> list[ConfigIssue]:
    """Look for suspicious values.

    Args:
        facts: What is known of the run; unknown values are passed over.
    """
    return [ConfigIssue(text, fix) for check in _CHECKS for text, fix in check(facts)]


def _learning_rate(facts: Facts) -> Iterator[Issue]:
    optimizer = facts.optimizer
    rate, band, effective = optimizer.learning_rate, band_of(optimizer), effective_rate(optimizer)
    if rate is None:
        return
    if not math.isfinite(rate) or rate < 0:
        yield f"learning rate {number(rate)}: it must be a positive number.", _usual_rate(facts)
    elif rate == 0 and not optimizer.schedule:
        yield "learning rate 0: nothing will be learned.", _usual_rate(facts)
    elif band is not None and effective is not None:
        name = optimizer.name[:60]
        momentum = (
            "" if effective == rate else f", as strong as {number(effective)} with momentum {optimizer.momentum:g}"
        )
        if effective > 1.001 * band.high:  # 0.2 / (1 - 0.9) is a little above 2
            yield (
                f"learning rate {number(rate)}{momentum}: {times(effective / band.high)} the highest usual one for "
                f"{name} ({number(band.low)} to {number(band.high)}).",
                f"Lower the learning rate to {number(lower_rate(optimizer) or band.usual)}.",
            )
        elif effective < band.low and not optimizer.schedule:  # a warm-up begins low
            yield (
                f"learning rate {number(rate)}{momentum}: below the usual ones for {name} "
                f"({number(band.low)} to {number(band.high)}).",
                f"Raise the learning rate to {number(raised_rate(optimizer) or band.usual)}.",
            )


def _momentum(facts: Facts) -> Iterator[Issue]:
    betas = {name: value for name, value in _leaves(facts.config) if re.fullmatch(r"beta_?[12]|betas\.[01]", name)}
    values = {"momentum": facts.optimizer.momentum, **betas}
    for name, value in values.items():
        if isinstance(value, int | float) and not 0 <= value < 1:
            usual = 0.999 if name in ("beta_2", "beta2", "betas.1") else 0.9
            yield f"{name} {number(value)}: it must be at least 0 and below 1.", f"Set {name} to {usual}."
    first, second = (next((v for n, v in betas.items() if n.endswith(end)), None) for end in ("1", "2"))
    if "betas.0" in betas:
        first, second = betas["betas.0"], betas.get("betas.1")
    if isinstance(first, int | float) and isinstance(second, int | float) and 0 <= second < first < 1:
        yield (
            f"betas {number(first)} and {number(second)}: the second is usually the larger one; they look swapped.",
            f"Set betas to ({number(second)}, {number(first)}).",
        )


def _epsilon(facts: Facts) -> Iterator[Issue]:
    if "ada" not in facts.optimizer.name.lower():
        return
    for name, value in _leaves(facts.config):
        if name in ("eps", "epsilon", "adam_epsilon") and isinstance(value, int | float) and value < LEAST_EPSILON:
            yield f"{name} {number(value)}: too small to keep divisions in range (usual: 1e-8).", f"Set {name} to 1e-8."


def _weight_decay(facts: Facts) -> Iterator[Issue]:
    decay = facts.optimizer.weight_decay
    if decay is None:
        return
    if decay < 0 or not math.isfinite(decay):
        text = f"weight decay {number(decay)}: a negative one makes the weights grow; it must be at least 0."
        yield text, "Set the weight decay to 0 or a little above."
    elif decay > MOST_DECAY:
        text = f"weight decay {number(decay)}: it may keep the model from fitting (usual: 0.0001 to 0.1)."
        yield text, "Lower the weight decay to 0.01."


def _clipping(facts: Facts) -> Iterator[Issue]:
    limit = clipping_limit(facts)
    if limit is not None and limit < LEAST_CLIP:
        text = f"gradient clipping {facts.optimizer.clipping}: leaves next to nothing (usual: norm 0.5 to 5)."
        yield text, "Clip the gradient norm at 1."


def clipping_limit(facts: Facts) -> float | None:
    """The number at which gradients are clipped, of ``"norm 1.0"`` for example; ``None`` without clipping."""
    match = re.search(r"(?:norm|value) ([-+\d.eE]+)", facts.optimizer.clipping or "")
    try:
        return float(match.group(1)) if match else None
    except ValueError:
        return None


def _batch_size(facts: Facts) -> Iterator[Issue]:
    batch, samples = facts.batch_size, facts.train_samples
    if batch == 1 and facts.model.normalization:
        text = "batch size 1 with a model that normalizes: batch normalization needs more than one sample per batch."
        yield text, "Use a batch size of at least 8, or layer or group normalization."
    if batch and samples and batch >= samples and samples > 1 and not (facts.max_epochs and facts.max_epochs > 100):
        text = f"batch size {count(batch)} for {count(samples)} training samples: only one update per epoch."
        yield text, f"Lower the batch size to {count(max(samples // 10, 1))}."


def _model(facts: Facts) -> Iterator[Issue]:
    model = facts.model
    if model.trainable_parameters == 0:
        yield "the model has no trainable parameters: nothing can be learned.", "Make the parameters trainable."
    if model.dropout is not None and model.dropout >= MOST_DROPOUT:
        text = f"dropout {number(model.dropout)}: little of the signal is left (usual: 0.1 to 0.5)."
        yield text, "Lower dropout to 0.3."


def _labels(facts: Facts) -> Iterator[Issue]:
    width = facts.model.output_width
    if facts.target_kind != "classes" or not facts.class_counts:
        return
    low, high = min(facts.class_counts), max(facts.class_counts)
    if width is not None and width > 1 and high >= width:
        text = f"labels go up to {high}, but the output has {width} units: labels must be 0 to {width - 1}."
        yield text, f"Number the classes from 0, or give the last layer {high + 1} units."
    if low < 0 and low != IGNORED_LABEL:
        yield f"labels go down to {low}: classes are numbered from 0.", "Number the classes from 0."


def _warmup(facts: Facts) -> Iterator[Issue]:
    """A warm-up that the run never gets out of."""
    planned = facts.planned_steps
    for name, value in _leaves(facts.config):
        if "warmup" not in name.replace("_", "") or not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if name.endswith(("ratio", "proportion", "fraction")):
            total, unit = 1.0, "of the run"
        elif "epoch" in name:
            total, unit = float(facts.max_epochs or 0), f"of {count(facts.max_epochs or 0)} planned epochs"
        else:
            total, unit = float(planned or 0), f"of {count(planned or 0)} planned steps"
        if total > 0 and value >= total:
            yield (
                f"{name} {number(float(value))} {unit}: the learning rate never gets to its full value.",
                f"Set {name} to at most {number(USUAL_WARMUP * total)}.",
            )


def _accumulation(facts: Facts) -> Iterator[Issue]:
    every, steps = facts.accumulate_batches, facts.steps_per_epoch
    if steps and every > steps:
        yield (
            f"{count(every)} batches per update, but only {count(steps)} in an epoch: less than one update per epoch.",
            f"Accumulate at most {count(max(steps // 10, 1))} batches.",
        )


def _usual_rate(facts: Facts) -> str:
    band = band_of(facts.optimizer)
    return f"Set the learning rate to {number(band.usual if band else 1e-3)}."


_CHECKS: tuple[Callable[[Facts], Iterator[Issue]], ...] = (
    _learning_rate,
    _momentum,
    _epsilon,
    _weight_decay,
    _clipping,
    _batch_size,
    _model,
    _labels,
    _warmup,
    _accumulation,
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
