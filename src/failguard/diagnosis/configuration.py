"""A user's configuration as facts: which of its values are the optimizer's, the model's, the plan's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from failguard.core.facts import Facts

__all__ = ["NAMES", "facts_of"]

MAX_DEPTH = 8
NAMES: Mapping[str, tuple[str, ...]] = {
    "optimizer": ("optimizer", "optimizer_name", "opt_name", "optim"),
    "learning_rate": ("learning_rate", "lr", "opt_learning_rate", "base_lr", "max_lr"),
    "momentum": ("momentum", "opt_momentum"),
    "weight_decay": ("weight_decay", "opt_weight_decay", "wd"),
    "schedule": ("lr_scheduler_type", "lr_scheduler", "scheduler"),
    "clipping": ("gradient_clip_val", "max_grad_norm", "grad_clip", "clip_grad_norm", "clipnorm"),
    "dropout": ("dropout", "dropout_rate", "drop_rate"),
    "batch_size": ("batch_size", "train_batch_size", "per_device_train_batch_size"),
    "max_epochs": ("max_epochs", "num_train_epochs", "num_epochs", "n_epochs", "epochs"),
    "max_steps": ("max_steps", "total_steps", "num_training_steps"),
    "accumulate_batches": ("accumulate_grad_batches", "gradient_accumulation_steps", "accumulate_batches"),
}
"""What a value is, to the names under which it is usual; the first that is there counts."""


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

    def number(what: str) -> float | None:
        for name in NAMES[what]:
            value = leaves.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
        return None

    def whole(what: str) -> int | None:
        value = number(what)
        return None if value is None else int(value)

    def text(what: str) -> str | None:
        value: object = next((leaves[name] for name in NAMES[what] if name in leaves), None)
        return value if isinstance(value, str) else None

    facts = Facts(config=dict(config))
    optimizer = facts.optimizer
    optimizer.name = text("optimizer") or ""
    optimizer.learning_rate = number("learning_rate")
    optimizer.momentum, optimizer.weight_decay = number("momentum"), number("weight_decay")
    optimizer.schedule = text("schedule")
    clip = number("clipping")
    optimizer.clipping = f"norm {clip:g}" if clip else None
    facts.model.dropout = number("dropout")
    facts.batch_size = whole("batch_size")
    facts.max_epochs, facts.max_steps = whole("max_epochs"), whole("max_steps")
    facts.accumulate_batches = whole("accumulate_batches") or 1
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
