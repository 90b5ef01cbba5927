"""What the autograd graph of one loss tells: which loss it is, and the activations that no module shows."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["GraphFacts", "read_graph"]

MAX_NODES = 4000  # a few milliseconds, once a run

LOSSES = {
    "NllLoss": "nll_loss",
    "NllLoss2D": "nll_loss",
    "BinaryCrossEntropy": "binary_cross_entropy",
    "BinaryCrossEntropyWithLogits": "binary_cross_entropy_with_logits",
    "MseLoss": "mse_loss",
    "L1Loss": "l1_loss",
    "SmoothL1Loss": "smooth_l1_loss",
    "HuberLoss": "huber_loss",
    "KlDiv": "kl_div",
    "CtcLoss": "ctc_loss",
    "SoftMarginLoss": "soft_margin_loss",
    "MultiMarginLoss": "multi_margin_loss",
}
ACTIVATIONS = {
    "Relu": "relu",
    "LeakyRelu": "leaky_relu",
    "Elu": "elu",
    "Gelu": "gelu",
    "Silu": "silu",
    "Mish": "mish",
    "Softplus": "softplus",
    "Hardtanh": "hardtanh",
    "Hardswish": "hardswish",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
}
NORMALIZATIONS = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RmsNorm", "RMSNorm")
# Nodes between a reduced loss and the loss function itself that leave the value in proportion.
# A product is none of them: weights of samples or of the whole loss, which move its baseline by an unknown factor.
PASS_THROUGH = ("Div", "ToCopy", "View", "Reshape", "Squeeze", "Unsqueeze", "Clone", "Mean", "Alias")
MEAN_REDUCTION = 1  # at::Reduction::Mean; 0 is none, 2 is sum


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """What was found.

    Attributes:
        loss_name: Name in ``torch.nn.functional``, ``None`` where no known loss is in the graph.
        trivial_from: For a mean, unweighted cross-entropy that nothing is added to: what the loss of a constant
            predictor may be taken from; empty otherwise.
        divisor: By what the loss was divided after that, as for accumulation.
        activations: Functions found, in order from input to output.
        normalization: Whether a normalization was found.
    """

    loss_name: str | None = None
    trivial_from: tuple[str, ...] = ()
    divisor: float = 1.0
    activations: tuple[str, ...] = ()
    normalization: bool = False


def read_graph(loss: Any) -> GraphFacts:
    """Read the graph of a loss before backward frees it.

    Args:
        loss: A tensor with a graph; anything else gives empty facts, as does a compiled graph, which is one node.
    """
    root = loss.grad_fn if isinstance(loss, Tensor) else None
    if root is None:
        return GraphFacts()
    found_loss: Any = None
    activations: list[str] = []
    normalization = False
    queue = deque([root])
    seen = {root}
    while queue and len(seen) < MAX_NODES:
        node = queue.popleft()
        kind = _kind(node)
        if found_loss is None and kind in LOSSES:
            found_loss = node
        if kind in ACTIVATIONS and not (
            found_loss is not None and kind == "LogSoftmax" and node in _inputs(found_loss)
        ):
            activations.append(ACTIVATIONS[kind])
        normalization = normalization or any(n in kind for n in NORMALIZATIONS)
        for below in _inputs(node):
            if below not in seen:
                seen.add(below)
                queue.append(below)
    name = None if found_loss is None else LOSSES[_kind(found_loss)]
    if name == "nll_loss" and any(_kind(n) == "LogSoftmax" for n in _inputs(found_loss)):
        name = "cross_entropy"
    trivial_from, divisor = _trivial_from(root, found_loss, name)
    return GraphFacts(
        loss_name=name,
        trivial_from=trivial_from,
        divisor=divisor,
        activations=tuple(dict.fromkeys(reversed(activations))),
        normalization=normalization,
    )


def _trivial_from(root: Any, loss: Any, name: str | None) -> tuple[tuple[str, ...], float]:
    nothing: tuple[tuple[str, ...], float] = ((), 1.0)
    if name not in ("cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits"):
        return nothing
    node, averaged, divisor = root, False, 1.0
    while node is not loss:
        below = _inputs(node)
        if len(below) != 1 or not _kind(node).startswith(PASS_THROUGH):
            return nothing
        averaged = averaged or _kind(node) == "Mean"
        if _kind(node) == "Div":
            by = _divided_by(node)
            if by is None:
                return nothing
            divisor *= by
        node = below[0]
    reduction = getattr(loss, "_saved_reduction", MEAN_REDUCTION)
    if not (reduction == MEAN_REDUCTION or (reduction == 0 and averaged)):
        return nothing
    if _has_weights(loss):
        return nothing
    return ("class_prior",) if name.startswith("binary") else ("class_prior", "output_width"), divisor


def _divided_by(node: Any) -> float | None:
    """The number above zero that a division was by; ``None`` where it cannot be told."""
    try:
        by = getattr(node, "_saved_other", None)
    except RuntimeError:  # backward has freed it
        return None
    if isinstance(by, Tensor):
        by = by.item() if by.numel() == 1 and by.device.type == "cpu" else None
    return float(by) if isinstance(by, int | float) and by > 0 else None


def _has_weights(loss: Any) -> bool:
    """Whether a loss weighs classes."""
    try:
        saved = [getattr(loss, name, None) for name in ("_saved_weight", "_saved_pos_weight")]
    except RuntimeError:  # backward has freed them, so there were some
        return True
    return any(weight is not None for weight in saved)


def _kind(node: Any) -> str:
    """``"MseLoss"`` for ``MseLossBackward0``."""
    return str(node.name()).rsplit("::", 1)[-1].partition("Backward")[0]


def _inputs(node: Any) -> list[Any]:
    return [below for below, _ in node.next_functions if below is not None]
