"""Layers that are one linear map together, from the autograd graph of a loss."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["idle_layers"]

DENSE = ("Addmm", "Mm", "Linear", "Convolution", "Bmm")
# What keeps a map linear: shapes, sums, a factor that is no activation (dropout), and the leaves.
LINEAR = (
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
    "Select",
    "Slice",
    "Add",
    "NativeDropout",
    "torch::autograd::AccumulateGrad",
)
MOST_NODES = 400  # a model of so many is not one of these


def idle_layers(root: Any, layer_of: Mapping[int, str]) -> tuple[str, ...]:
    """Dense layers that follow another one directly in a model without any activation, and do not narrow it.

    A hidden layer narrower than both input and output is a bottleneck, which linear models have on purpose.

    Args:
        root: The node of the loss.
        layer_of: Name of the layer of each parameter, by the parameter's identity.

    Returns:
        Their names, the last layer first; nothing where there is an activation, or the graph is none of a plain stack.
    """
    every = list(_walk(root))
    if len(every) >= MOST_NODES:
        return ()
    top = next((node for node in every if _kind(node) in DENSE), None)
    if top is None:
        return ()
    below = list(_walk(top))
    if not all(_kind(node) in (*DENSE, *LINEAR) or _is_factor(node) for node in below):
        return ()
    if any(_kind(node) in DENSE for node in every if all(node is not other for other in below)):
        return ()
    weights = [(layer_of.get(id(w)), tuple(w.shape)) for node in below if (w := _weight(node)) is not None]
    named = [(name, shape) for name, shape in weights if name is not None]
    if len(named) < 2 or len(named) < len(weights):
        return ()
    first, last = named[-1][1][1], named[0][1][0]
    widths = [shape[0] for _, shape in named[1:]]  # of the hidden layers
    return tuple(str(name) for name, _ in named[:-1]) if min(widths) >= min(first, last) else ()


def _is_factor(node: Any) -> bool:
    """A product with or division by constants, as dropout is."""
    edges = [below for below, _ in node.next_functions]
    if _kind(node) == "Div":
        return len(edges) < 2 or edges[1] is None
    return _kind(node) == "Mul" and sum(edge is not None for edge in edges) == 1


def _weight(node: Any) -> Any:
    """The matrix of a dense layer's node."""
    if _kind(node) not in DENSE:
        return None
    for below, _ in node.next_functions:
        inner = below
        while inner is not None and _kind(inner) in ("T", "Transpose", "Permute") and inner.next_functions:
            inner = inner.next_functions[0][0]
        variable = getattr(inner, "variable", None)
        if variable is not None and variable.dim() > 1:
            return variable
    return None


def _walk(root: Any) -> Iterator[Any]:
    queue, seen = deque([root]), {root}
    while queue and len(seen) < MOST_NODES:
        node = queue.popleft()
        yield node
        for below, _ in node.next_functions:
            if below is not None and below not in seen:
                seen.add(below)
                queue.append(below)


def _kind(node: Any) -> str:
    name = str(node.name())
    return name if name.endswith("AccumulateGrad") else name.rsplit("::", 1)[-1].partition("Backward")[0]
