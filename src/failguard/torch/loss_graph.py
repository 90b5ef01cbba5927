"""How the model's output meets the loss, from the autograd graph of one loss."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from failguard.core.facts import OutputFacts
from failguard.torch.linear_stack import idle_layers

__all__ = ["LossGraph", "read_loss_graph"]

MAX_NODES = 4000
MAX_ABOVE_LOSS = 12  # nodes between the root and a loss written by hand

# Name of the loss, and what it takes.
KNOWN = {
    "NllLoss": ("nll_loss", "log_probabilities"),
    "NllLoss2D": ("nll_loss", "log_probabilities"),
    "BinaryCrossEntropy": ("binary_cross_entropy", "probabilities"),
    "BinaryCrossEntropyWithLogits": ("binary_cross_entropy_with_logits", "logits"),
    "KlDiv": ("kl_div", "log_probabilities"),
    "MseLoss": ("mse_loss", "values"),
    "L1Loss": ("l1_loss", "values"),
    "SmoothL1Loss": ("smooth_l1_loss", "values"),
    "HuberLoss": ("huber_loss", "values"),
}
# Of two classes it is negated on purpose, by generators against their discriminators.
NEVER_NEGATIVE = ("cross_entropy", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
ACTIVATIONS = {
    "Relu": "relu",
    "LeakyRelu": "leaky_relu",
    "Elu": "elu",
    "Gelu": "gelu",
    "Silu": "silu",
    "Softplus": "softplus",
    "Hardtanh": "hardtanh",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
}
WATCHED = ("relu", "sigmoid", "tanh")  # activations whose units can die or saturate
MADE_BY_LAYER = ("Addmm", "Mm", "Bmm", "Convolution", "Linear", "Mv")
# Nodes that hand values on as they are.
SAME_VALUES = (
    "View",
    "Reshape",
    "UnsafeView",
    "Squeeze",
    "Unsqueeze",
    "Expand",
    "Clone",
    "Alias",
    "ToCopy",
    "Transpose",
    "Permute",
    "T",
)
PARTS = (*SAME_VALUES, "Select", "Slice", "Index")  # nodes that hand on some of the values as they are
SQUASHES = ("sigmoid", "softmax")
REDUCTIONS = {0: None, 1: "mean", 2: "sum"}


@dataclass(slots=True)
class LossGraph:
    """What was found.

    Attributes:
        name: Name of the loss in ``torch.nn.functional``, ``None`` where none is known or there are several.
        output: How the output meets the loss.
        prediction, target: The tensors that the loss saw, before backward freed them; else ``None``.
        activations: Kind of the activation that each layer feeds, by the layer's name.
        is_plain: The loss is the mean of this one and nothing else.
        reaches_parameters: A path of gradients leads to parameters; ``None`` where the graph is too large to tell.
        idle_layers: See :func:`failguard.torch.linear_stack.idle_layers`.
    """

    name: str | None = None
    output: OutputFacts = field(default_factory=OutputFacts)
    prediction: Tensor | None = None
    target: Tensor | None = None
    activations: dict[str, str] = field(default_factory=dict)
    is_plain: bool = False
    reaches_parameters: bool | None = None
    idle_layers: tuple[str, ...] = ()


def read_loss_graph(loss: Any, layer_of: Mapping[int, str]) -> LossGraph:
    """Read the graph of a loss.

    Args:
        loss: A tensor with a graph; anything else, and the one node of a compiled graph, gives empty facts.
        layer_of: Name of the layer of each parameter, by the parameter's identity.
    """
    root = loss.grad_fn if isinstance(loss, Tensor) else None
    found = LossGraph()
    if root is None:
        found.reaches_parameters = False if isinstance(loss, Tensor) and loss.requires_grad else None
        return found
    losses, activations = [], []
    nodes, reaches = 0, False
    for node in _walk(root):
        nodes += 1
        kind = _kind(node)
        reaches = reaches or id(getattr(node, "variable", None)) in layer_of
        if kind in KNOWN:
            losses.append(node)
        if ACTIVATIONS.get(kind) in WATCHED:
            activations.append(node)
    found.idle_layers = idle_layers(root, layer_of)
    found.reaches_parameters = True if reaches else None if nodes >= MAX_NODES else False
    of_loss: Any = losses[0] if len(losses) == 1 else None
    by_hand: str | None = None
    last = None
    if not losses:
        of_loss, by_hand = _written_by_hand(root)
        product = _divergence(root, loss) if of_loss is None else None
        if product is not None:
            last = _describe_divergence(found, product)
    if of_loss is not None:
        last = _describe(found, of_loss, root, by_hand=by_hand)
        found.output.is_negated = found.output.is_negated and found.name in NEVER_NEGATIVE
    for activation in activations:
        name = _layer_before(activation, layer_of)
        if name is not None and activation is not last:
            found.activations.setdefault(name, ACTIVATIONS[_kind(activation)])
    return found


def _describe(found: LossGraph, node: Any, root: Any, *, by_hand: str | None) -> Any:
    """Fill in what the loss and the nodes before it tell.

    Args:
        found: Filled in.
        node: The loss; the difference, where it was written by hand.
        root: Of the graph.
        by_hand: Name of a loss that was written by hand.

    Returns:
        The node of the last activation, if there is one.
    """
    output = found.output
    if by_hand is not None:
        found.name, output.loss_takes = by_hand, "values"
        before = _inputs(node)
        below = before[0] if len(before) == 1 else None
    else:
        found.name, output.loss_takes = KNOWN[_kind(node)]
        found.prediction, found.target = _saved(node, "self"), _saved(node, "target")
        ignored = _saved(node, "ignore_index")
        # Negative numbers, such as the -100 of the default, come as unsigned ones of 64 bits.
        output.ignored_class = int(ignored) if isinstance(ignored, int) and 0 <= ignored < 1 << 63 else None
        before = _inputs(node)
        below = before[0] if before else None
    reduction = _reduction(node, root, by_hand=by_hand)
    output.loss_is_summed = reduction == "sum"
    found.is_plain = reduction == "mean" and not _is_weighted(node)
    output.is_negated = _is_negated(node, root)
    if below is None:
        return None
    if found.name == "nll_loss" and _kind(below) == "Log" and _kind(_above_zero(_inputs(below)[0])) == "Softmax":
        below = _above_zero(_inputs(below)[0])
        _set_axis(output, below)
        output.activation, output.shape = "log_softmax", _shape(below)
        output.is_squashed_twice = _is_squashed(below)
        return below
    if found.name == "nll_loss" and _kind(below) == "LogSoftmax":
        _set_axis(output, below)
        if output.activation_over_samples:  # not cross_entropy's own
            output.activation, output.shape = "log_softmax", _shape(below)
            return below
        found.name, output.loss_takes = "cross_entropy", "logits"
        output.activation_units, output.shape = None, _shape(below)
        above = _inputs(below)
        if not above:
            return None
        below = above[0]
    wide = _shape(below)
    last = _skip(below)
    narrow = _shape(last)
    if output.shape is None:
        output.shape = narrow if _kind(below) == "Expand" else wide
    if _kind(below) == "Expand" or (by_hand is not None and _grew(node, below)):
        output.is_broadcast = True
        output.shape = narrow if by_hand is None else wide
    last = _skip(last, PARTS)
    kind = _set_activation(output, last)
    if found.target is not None:
        output.target_shape = tuple(found.target.shape)
        # A target that was expanded has a stride of zero along a dimension of some length.
        if any(s == 0 and n > 1 for s, n in zip(found.target.stride(), found.target.shape, strict=True)):
            output.is_broadcast = True
    return last if kind in ACTIVATIONS else None


def _set_activation(output: OutputFacts, node: Any) -> str:
    """Note what kind of node made the output, and give it back."""
    kind = _kind(node)
    if kind in ACTIVATIONS:
        output.activation = ACTIVATIONS[kind]
        if kind in ("Softmax", "LogSoftmax"):
            _set_axis(output, node)
        output.is_squashed_twice = kind in ("Sigmoid", "Softmax", "LogSoftmax") and _is_squashed(node)
    elif kind.startswith(MADE_BY_LAYER):
        output.activation = "linear"
    return kind


def _is_squashed(node: Any) -> bool:
    """Whether what goes into an activation are probabilities already, of a sigmoid or softmax."""
    above = _inputs(node)
    return len(above) == 1 and ACTIVATIONS.get(_kind(_skip(above[0], PARTS))) in SQUASHES


def _divergence(root: Any, loss: Tensor) -> Any:
    """The product within a ``kl_div`` of probabilities, which is made of single operations.

    It is ``sum(t ln t - t p)`` of constants ``t``, where ``p`` is to be a logarithm. With probabilities for ``p`` it is
    below zero; other differences of this form, such as one minus the probability of the right class, are not.

    Returns:
        The node of ``t p``; ``None`` for anything else.
    """
    node = root
    for _ in range(MAX_ABOVE_LOSS):
        if not _kind(node).startswith((*SAME_VALUES, "Mean", "Sum", "Div")) or len(_inputs(node)) != 1:
            break
        node = _inputs(node)[0]
    edges = [below for below, _ in node.next_functions]
    if _kind(node) != "Sub" or len(edges) != 2 or edges[0] is not None or edges[1] is None:
        return None
    product = edges[1]
    if _kind(product) != "Mul" or len(_inputs(product)) != 1 or _shape(product) != _shape(node):
        return None
    is_squash = ACTIVATIONS.get(_kind(_skip(_inputs(product)[0]))) in SQUASHES
    is_readable = loss.numel() == 1 and loss.device.type == "cpu"  # elsewhere it would be waited for
    return product if is_squash and is_readable and float(loss.detach()) < 0.0 else None


def _describe_divergence(found: LossGraph, product: Any) -> Any:
    """Fill in what a ``kl_div`` made of single operations tells."""
    found.name, found.output.loss_takes = "kl_div", "log_probabilities"
    below = _inputs(product)[0]
    found.output.shape = _shape(below)
    last = _skip(below)
    _set_activation(found.output, last)
    return last


def _written_by_hand(root: Any) -> tuple[Any, str | None]:
    """A squared or absolute difference right below a mean or sum.

    Returns:
        The node of the difference, and ``"mse_loss"`` or ``"l1_loss"``; ``None`` twice for anything else.
    """
    node = root
    for _ in range(MAX_ABOVE_LOSS):
        kind = _kind(node)
        if kind == "Abs" or (kind == "Pow" and getattr(node, "_saved_exponent", None) == 2):
            below = _inputs(node)
            is_difference = len(below) == 1 and _kind(below[0]) in ("Sub", "Rsub")
            if not is_difference or len(_inputs(below[0])) != 1:
                return None, None
            return below[0], "l1_loss" if kind == "Abs" else "mse_loss"
        if not kind.startswith((*SAME_VALUES, "Mean", "Sum", "Div")) or len(_inputs(node)) != 1:
            return None, None
        node = _inputs(node)[0]
    return None, None


def _grew(node: Any, below: Any) -> bool:
    """Whether a difference has more elements than the output that went in."""
    whole, part = _shape(node), _shape(below)
    return whole is not None and part is not None and _size(whole) > _size(part)


def _set_axis(output: OutputFacts, node: Any) -> None:
    shape, dim = _shape(node), getattr(node, "_saved_dim", None)
    if shape is None or dim is None or not shape:
        return
    dim = dim if dim < 1 << 31 else dim - (1 << 64)  # negative dimensions come as unsigned
    dim %= len(shape)
    output.activation_units = shape[dim]
    output.activation_over_samples = dim == 0 and len(shape) > 1


def _reduction(node: Any, root: Any, *, by_hand: str | None) -> str | None:
    """``"mean"`` or ``"sum"`` of this loss alone; ``None`` where something else takes part."""
    own = None if by_hand is not None else REDUCTIONS.get(getattr(node, "_saved_reduction", 1))
    at: Any = root
    above: list[str] = []
    while at is not node:
        below = _inputs(at)
        if len(below) != 1 or len(above) > MAX_ABOVE_LOSS:
            return "sum" if own == "sum" else None
        above.append(_kind(at))
        at = below[0]
    if own is not None:
        return own if all(k.startswith((*SAME_VALUES, "Div", "Mean")) for k in above) else None
    if "Mean" in above:
        return "mean"
    return "sum" if "Sum" in above and "Div" not in above else None


def _is_negated(node: Any, root: Any) -> bool:
    """Whether nothing but a change of sign is between a loss and the root."""
    sign, at = 1, root
    for _ in range(MAX_ABOVE_LOSS):
        if at is node:
            return sign < 0
        below, kind = _inputs(at), _kind(at)
        if len(below) != 1:
            return False
        factor = _saved(at, "other") if kind == "Mul" else None
        if isinstance(factor, Tensor) and factor.device.type != "cpu":  # it would be waited for
            return False
        if kind == "Neg" or (isinstance(factor, int | float | Tensor) and float(factor) < 0):
            sign = -sign
        elif not kind.startswith((*SAME_VALUES, "Div", "Mean", "Sum", "Mul")):
            return False
        at = below[0]
    return False


def _is_weighted(node: Any) -> bool:
    return any(_saved(node, name) is not None for name in ("weight", "pos_weight"))


def _saved(node: Any, name: str) -> Any:
    try:
        return getattr(node, f"_saved_{name}", None)
    except RuntimeError:  # backward has freed it
        return None


def _layer_before(node: Any, layer_of: Mapping[int, str]) -> str | None:
    """The layer whose output goes into a node."""
    queue = deque(_inputs(node))
    seen: set[Any] = set()
    while queue and len(seen) < 32:
        at = queue.popleft()
        seen.add(at)
        owners = [n for n in _inputs(at) if getattr(n, "variable", None) is not None]
        owners += [m for n in _inputs(at) if _kind(n) == "T" for m in _inputs(n)]
        for owner in owners:
            name = layer_of.get(id(getattr(owner, "variable", None)))
            if name is not None:
                return name
        queue.extend(n for n in _inputs(at) if n not in seen)
    return None


def _skip(node: Any, kinds: tuple[str, ...] = SAME_VALUES) -> Any:
    """The first node below that is none of these kinds, so that it makes other values."""
    while _kind(node) in kinds and len(_inputs(node)) == 1:
        node = _inputs(node)[0]
    return node


def _above_zero(node: Any) -> Any:
    """What is kept above 0 for a logarithm, as in ``log(p + 1e-9)`` and ``log(p.clamp(min=1e-9))``."""
    is_kept = _kind(node) in ("Add", "Clamp", "ClampMin") and len(_inputs(node)) == 1
    return _inputs(node)[0] if is_kept else node


def _walk(root: Any) -> Iterator[Any]:
    queue, seen = deque([root]), {root}
    while queue and len(seen) < MAX_NODES:
        node = queue.popleft()
        yield node
        for below in _inputs(node):
            if below not in seen:
                seen.add(below)
                queue.append(below)


def _shape(node: Any) -> tuple[int, ...] | None:
    metadata = getattr(node, "_input_metadata", None)  # shapes of what the node made; no public name for it
    return tuple(int(n) for n in metadata[0].shape) if metadata else None


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def _kind(node: Any) -> str:
    return str(node.name()).rsplit("::", 1)[-1].partition("Backward")[0]


def _inputs(node: Any) -> list[Any]:
    return [below for below, _ in node.next_functions if below is not None]
