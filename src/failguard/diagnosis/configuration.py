"""A user's configuration as facts: which of its values are the optimizer's, the model's, the plan's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from failguard.core.facts import Facts

__all__ = ["facts_of"]

MAX_DEPTH = 8


def facts_of(config: Mapping[str, Any]) -> Facts:
    """What a configuration says of the run.

    Usual names are understood, also inside nested mappings: ``learning_rate`` or ``lr``, ``optimizer``, ``momentum``,
    ``weight_decay``, ``batch_size``, ``dropout``, ``epochs`` or ``max_epochs``, ``max_steps``, ``gradient_clip_val``,
    ``accumulate_grad_batches``; and those of MLflow's autologging, such as ``opt_name``.

    Args:
        config: Name to value. A value that is no number where one is needed is passed over.
    """
    leaves: dict[str, Any] = {}
    for name, value in _leaves(config):
        leaves.setdefault(name, value)

    def number(*names: str) -> float | None:
        for name in names:
            value = leaves.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
        return None

    def whole(*names: str) -> int | None:
        value = number(*names)
        return None if value is None else int(value)

    facts = Facts(config=dict(config))
    optimizer = facts.optimizer
    optimizer_name: object = next(
        (leaves[n] for n in ("optimizer", "optimizer_name", "opt_name", "optim") if n in leaves), None
    )
    optimizer.name = optimizer_name if isinstance(optimizer_name, str) else ""
    optimizer.learning_rate = number("learning_rate", "lr", "opt_learning_rate", "base_lr", "max_lr")
    optimizer.momentum, optimizer.weight_decay = (
        number("momentum", "opt_momentum"),
        number("weight_decay", "opt_weight_decay", "wd"),
    )
    schedule = next((leaves[n] for n in ("lr_scheduler_type", "lr_scheduler", "scheduler") if n in leaves), None)
    optimizer.schedule = schedule if isinstance(schedule, str) else None
    clip = number("gradient_clip_val", "max_grad_norm", "grad_clip", "clip_grad_norm", "clipnorm")
    optimizer.clipping = f"norm {clip:g}" if clip else None
    facts.model.dropout = number("dropout", "dropout_rate", "drop_rate")
    facts.batch_size = whole("batch_size", "train_batch_size", "per_device_train_batch_size")
    facts.max_epochs = whole("max_epochs", "num_train_epochs", "num_epochs", "n_epochs", "epochs")
    facts.max_steps = whole("max_steps", "total_steps", "num_training_steps")
    facts.accumulate_batches = (
        whole("accumulate_grad_batches", "gradient_accumulation_steps", "accumulate_batches") or 1
    )
    return facts


def _leaves(config: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Values with their last key in lower case, those further up first."""
    inner = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            inner.append((key, value))
        else:
            yield str(key).lower().replace("-", "_").rsplit(".", 1)[-1], value
    for key, value in inner:
        if str(key).lower() == "optimizer" and isinstance(value.get("name"), str):
            yield "optimizer", value["name"]
        if depth < MAX_DEPTH:
            yield from _leaves(value, depth + 1)
