"""Find where a value that is not finite came from, by looking again at the failing batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from failguard.core.finding import Finding, Where
from failguard.keras.batches import non_finite_part, non_finite_rows
from failguard.keras.snapshot import non_finite_variables

__all__ = ["locate"]


def locate(finding: Finding, model: Any, batch: Any, part: str | None, *, runs_again: bool) -> Where | None:
    """The place of a value that is not finite: the batch, a weight, a layer's output, the loss or a gradient.

    Looked at in this order, as each explains those after it. The model is left as it was.

    Args:
        finding: What was found, with the step it was seen at.
        model: The model, outside of a compiled step.
        batch: The failing batch as ``train_step`` got it, ``None`` where it was not kept.
        part: What the step itself found out: ``"input"``, ``"target"``, ``"output"`` or ``None``.
        runs_again: The model may be called now.

    Returns:
        The place, ``None`` where nothing more can be said.
    """
    step = finding.step
    if batch is not None:
        part = non_finite_part(batch) or part
    if part in ("input", "target"):
        return Where(tensor=part, batch=step, rows=() if batch is None else non_finite_rows(batch, part))
    if runs_again:
        bad_weights = non_finite_variables(model)
        if bad_weights:
            return Where(module=_owner(model, bad_weights[0]), tensor="weight", batch=step)
    if finding.code == "weights.non_finite":
        return None
    if batch is not None and runs_again:
        place = _look_again(finding, model, batch, step)
        if place is not None:
            return place
    if part is not None:
        return Where(tensor=part, batch=step)
    return None


def _look_again(finding: Finding, model: Any, batch: Any, step: int) -> Where | None:
    """Run forward once more, layer by layer; then backward, where only a gradient is bad."""
    x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
    seen: list[str] = []
    bad: list[str] = []

    def watch(name: str, output: Any) -> None:
        seen.append(name)
        if not bad and any(not _is_finite(leaf) for leaf in keras.tree.flatten(output)):
            bad.append(name)

    with _unchanged(model), _watched(model, watch):
        try:
            gradients = _bad_gradients(model, x, y, weight)
        except Exception:  # noqa: BLE001 - what was seen until then counts
            gradients = []
    if bad:
        return Where(module=bad[0], tensor="output", batch=step)
    if finding.code == "loss.non_finite":
        return Where(tensor="loss", batch=step)
    if gradients:
        # Backward reached the layer that was called last first.
        owners = [_owner(model, path) for path in gradients]
        return Where(
            module=max(owners, key=lambda o: seen.index(o) if o in seen else -1), tensor="gradient", batch=step
        )
    return None


def _bad_gradients(model: Any, x: Any, y: Any, weight: Any) -> list[str]:
    """Run forward and backward. Paths of trainable variables whose gradient is not finite."""

    def loss() -> Any:
        prediction = model(x, training=True)
        return model.compute_loss(x=x, y=y, y_pred=prediction, sample_weight=weight, training=True)

    variables = model.trainable_variables
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = loss()
        grads = tape.gradient(value, [v.value for v in variables])
        grads = [g.values if isinstance(g, tf.IndexedSlices) else g for g in grads]
    elif backend == "torch":
        import torch

        value = loss()
        grads = torch.autograd.grad(value, [v.value for v in variables], allow_unused=True)
    else:
        loss()
        return []
    return [v.path for v, g in zip(variables, grads, strict=True) if g is not None and not _is_finite(g)]


@contextmanager
def _watched(model: Any, watch: Callable[[str, Any], None]) -> Iterator[None]:
    """Hand the output of every layer that holds no other to ``watch``, in the order of the calls."""
    wrapped = []
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if any(True for _ in layer._flatten_layers(include_self=False, recursive=False)):
            continue

        def call(*args: Any, _call: Any = layer.call, _name: str = layer.path or layer.name, **kwargs: Any) -> Any:
            output = _call(*args, **kwargs)
            watch(_name, output)
            return output

        wrapped.append((layer, layer.__dict__.get("call")))
        layer.__dict__["call"] = call
    try:
        yield
    finally:
        for layer, before in wrapped:
            if before is None:
                del layer.__dict__["call"]
            else:
                layer.__dict__["call"] = before


@contextmanager
def _unchanged(model: Any) -> Iterator[None]:
    """Put back statistics, seeds and metrics, which a call of the model moves."""
    variables = [*model.non_trainable_variables, *model.metrics_variables]
    before = [np.array(keras.ops.convert_to_numpy(v)) for v in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def _owner(model: Any, path: str) -> str:
    """Path of the layer that holds a variable."""
    for layer in model._flatten_layers(include_self=True, recursive=True):
        if any(v.path == path for v in layer._trainable_variables + layer._non_trainable_variables):
            return str(layer.path or layer.name)
    return path.rpartition("/")[0] or path


def _is_finite(values: Any) -> bool:
    try:
        array = np.asarray(keras.ops.convert_to_numpy(values))
    except Exception:  # noqa: BLE001 - symbolic, sparse or no tensor: nothing to be seen
        return True
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
