"""Model, optimizer, schedule and loss as plain facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from failguard.core.facts import Facts, ModelFacts, OptimizerFacts
from failguard.torch.graph import GraphFacts

__all__ = [
    "add_graph_facts",
    "loss_module_name",
    "model_facts",
    "optimizer_facts",
    "plain_values",
    "settings_of",
    "versions",
]

NORMALIZATIONS = (
    nn.modules.batchnorm._NormBase,  # batch and instance normalization of every dimension
    nn.LayerNorm,
    nn.GroupNorm,
)
DENSE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Bilinear, nn.ConvTranspose2d)
MAX_TEXT = 200


def model_facts(model: nn.Module) -> ModelFacts:
    """Facts of a model, from its modules in order of registration."""
    parameters = [p for p in model.parameters() if not is_lazy(p)]
    rates: list[float] = []
    activations: dict[str, None] = {}
    normalization = batch_normalization = False
    layers = 0
    width: int | None = None
    recurrent = False
    for module in model.modules():
        recurrent = recurrent or isinstance(module, nn.RNNBase | nn.RNNCellBase)
        if next(module.parameters(recurse=False), None) is not None:
            layers += 1
        if isinstance(module, nn.modules.dropout._DropoutNd):
            rates.append(float(module.p))
        elif isinstance(module, NORMALIZATIONS) or "RMSNorm" in type(module).__name__:
            normalization = True
            batch_normalization = batch_normalization or isinstance(module, nn.BatchNorm1d)
        elif type(module).__module__ == "torch.nn.modules.activation" and not isinstance(module, nn.MultiheadAttention):
            activations[type(module).__name__] = None
        elif isinstance(module, DENSE):
            found = getattr(module, "out_features", None) or getattr(module, "out_channels", None)
            width = int(found) if isinstance(found, int) else width
    return ModelFacts(
        name=type(model).__name__,
        parameters=sum(p.numel() for p in parameters),
        trainable_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        layers=layers,
        dropout=max(rates, default=None),
        normalization=normalization,
        batch_normalization=batch_normalization,
        activations=tuple(activations),
        output_width=width,
        recurrent=recurrent,
        dtype=next((str(p.dtype).removeprefix("torch.") for p in parameters if p.requires_grad), None),
    )


def optimizer_facts(optimizers: Iterable[Any], *, clipping: str | None, schedule: str | None) -> OptimizerFacts:
    """Facts of the first optimizer.

    Args:
        optimizers: Anything with ``param_groups``.
        clipping: ``"norm 1.0"`` or ``"value 0.5"``, ``None`` when gradients are not clipped.
        schedule: Class name of a learning-rate schedule.
    """
    first = next(iter(optimizers), None)
    if first is None:
        return OptimizerFacts(clipping=clipping, schedule=schedule)
    group = first.param_groups[0] if first.param_groups else {}
    # A schedule with a warm-up starts near zero; the rate that it scales says more.
    rate = group.get("initial_lr", group.get("lr"))
    return OptimizerFacts(
        name=type(getattr(first, "optimizer", first)).__name__,
        learning_rate=_number(rate),
        momentum=_number(group.get("momentum")),
        weight_decay=_number(group.get("weight_decay")),
        clipping=clipping,
        schedule=schedule,
    )


def settings_of(optimizer: OptimizerFacts) -> dict[str, Any]:
    """The optimizer's settings as a configuration, for runs whose hyperparameters are not known."""
    named = {
        "optimizer": optimizer.name,
        "learning_rate": optimizer.learning_rate,
        "momentum": optimizer.momentum,
        "weight_decay": optimizer.weight_decay,
    }
    return {name: value for name, value in named.items() if value not in (None, "")}


def loss_module_name(model: nn.Module) -> str | None:
    """Class name of the first loss module in a model, such as ``"CrossEntropyLoss"``."""
    return next((type(m).__name__ for m in model.modules() if isinstance(m, nn.modules.loss._Loss)), None)


def add_graph_facts(facts: Facts, graph: GraphFacts) -> None:
    """Fill in what only the graph of a loss shows: functional losses, activations and normalization."""
    if graph.loss_name is not None:
        facts.loss_name = graph.loss_name
    if not facts.model.activations:
        facts.model.activations = graph.activations
    facts.model.normalization = facts.model.normalization or graph.normalization


def versions(*packages: str) -> dict[str, str]:
    """Versions of the named distributions that are installed, and torch's."""
    found = {"torch": str(torch.__version__)}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def plain_values(values: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Hyperparameters as plain values: numbers and text as they are, anything else by its type's name."""
    return {str(name): _plain(value, depth) for name, value in values.items()}


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return value.item()
    if depth < 4:
        if isinstance(value, Mapping):
            return plain_values(value, depth + 1)
        if isinstance(value, list | tuple | set | frozenset):
            return [_plain(v, depth + 1) for v in value]
        if hasattr(value, "__dict__") and type(value).__name__ == "Namespace":
            return plain_values(vars(value), depth + 1)
    if isinstance(value, type):
        return value.__qualname__
    text = str(value)
    return text if len(text) <= MAX_TEXT and " object at 0x" not in text else type(value).__qualname__


def _number(value: Any) -> float | None:
    if isinstance(value, torch.Tensor):
        return float(value) if value.numel() == 1 else None
    return float(value) if isinstance(value, int | float) else None
