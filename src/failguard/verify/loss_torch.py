"""How the loss of a recorded batch is computed again: by the module, by the user's function, or found out."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from failguard.errors import InputError
from failguard.torch.batches import split, tensors
from failguard.torch.locate import call_model

__all__ = ["LossOf", "find_loss", "loss_of_function", "loss_of_module"]

LossOf = Callable[[nn.Module, Any, int], Tensor]
Shape = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Candidate = Callable[[Any, Any], Tensor]

SAME = 1e-3  # relative; a second forward pass on another device is not bit-identical
# Losses of torch.nn.functional that the usual loops use.
NAMES = (
    "cross_entropy",
    "mse_loss",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy",
    "nll_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
)


def loss_of_module(module: nn.Module, batch: Any, batch_index: int) -> Tensor:
    """The loss of a ``LightningModule``: what its ``training_step`` returns.

    Raises:
        InputError: It returns none.
    """
    step: Any = module.training_step
    module.__dict__.update(log=_nothing, log_dict=_nothing)  # attributes of the instance go before the class
    takes = inspect.signature(step).parameters
    result = step(batch, batch_index) if len(takes) >= 2 else step(batch)
    loss = result.get("loss") if isinstance(result, Mapping) else result
    if not isinstance(loss, Tensor):
        raise InputError("training_step returned no loss")
    return loss


def loss_of_function(function: Callable[[Any, Any], Any]) -> LossOf:
    """The loss that the user's own ``loss_fn`` gives."""

    def loss_of(module: nn.Module, batch: Any, batch_index: int) -> Tensor:
        loss = function(module, batch)
        if not isinstance(loss, Tensor):
            raise InputError(f"loss_fn returned {type(loss).__name__} and no tensor")
        return loss

    return loss_of


def find_loss(module: nn.Module, batch: Any, recorded: float | None, name: str | None) -> LossOf:
    """Find the loss of a plain loop: the usual one that gives the value which was recorded for this batch.

    Args:
        module: As it was before the batch.
        batch: The first one.
        recorded: Its loss in the run.
        name: Of the loss, where the run knew it.

    Raises:
        InputError: None does; the message says what to do.
    """
    if recorded is None or not recorded - recorded == 0.0:
        raise InputError("the loss of the first batch is not a finite number, so how it is computed is not known")
    try:
        output = call_model(module, batch)
    except Exception as error:
        raise InputError(
            f"the model cannot be called on a batch alone ({type(error).__name__}: {str(error)[:200]}). Give "
            "FailGuard(..., loss_fn=...), a function of the model and a batch that gives the loss"
        ) from error
    for candidate in _candidates(name):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # shapes that do not fit are tried too
                value = float(candidate(output, batch).detach())
        except Exception:  # noqa: BLE001 - it does not fit this output
            continue
        if abs(value - recorded) <= SAME * max(abs(recorded), 1e-6):
            return _through_the_model(candidate)
    raise InputError(
        f"no usual loss of model(inputs) and the targets gives the recorded {recorded:.6g}. Give FailGuard(..., "
        "loss_fn=...), a function of the model and a batch that gives the loss"
    )


def _through_the_model(candidate: Candidate) -> LossOf:
    def loss_of(module: nn.Module, batch: Any, batch_index: int) -> Tensor:
        return candidate(call_model(module, batch), batch)

    return loss_of


def _candidates(name: str | None) -> Iterator[Candidate]:
    """Ways from an output and a batch to a loss, the likeliest first."""
    yield lambda output, batch: _scalar(getattr(output, "loss", None))
    yield lambda output, batch: _scalar(output)
    names = [n for n in NAMES if n == name] or list(NAMES)
    for loss in names:
        for reduction in ("mean", "sum"):
            for shape in _SHAPES:
                yield _usual(getattr(functional, loss), reduction, shape)


def _usual(function: Callable[..., Tensor], reduction: str, shape: Shape) -> Candidate:
    def loss(output: Any, batch: Any) -> Tensor:
        return function(*shape(_prediction(output), _target(batch)), reduction=reduction)

    return loss


def _scalar(value: Any) -> Tensor:
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise InputError("no loss")
    return value


def _prediction(output: Any) -> Tensor:
    logits = getattr(output, "logits", None)
    found = logits if isinstance(logits, Tensor) else next(tensors(output), None)
    if found is None:
        raise InputError("no output")
    return found


def _target(batch: Any) -> Tensor:
    found = next(tensors(split(batch)[1]), None)
    if found is None:
        raise InputError("no targets")
    return found


# What loops do to make shapes fit.
_SHAPES: tuple[Shape, ...] = (
    lambda output, target: (output, target.to(output.device)),
    lambda output, target: (output.squeeze(-1), target.to(output.device)),
    lambda output, target: (output, target.to(output.device).unsqueeze(-1)),
    lambda output, target: (output, target.to(output.device, output.dtype)),
    lambda output, target: (output.squeeze(-1), target.to(output.device, output.dtype)),
    lambda output, target: (output, target.to(output.device, output.dtype).unsqueeze(-1)),
    lambda output, target: (output, target.to(output.device, torch.int64)),
    lambda output, target: (output, target.to(output.device, torch.int64).squeeze(-1)),
    lambda output, target: (output.flatten(0, -2), target.to(output.device).flatten()),
)


def _nothing(*_: Any, **__: Any) -> None:
    return None
