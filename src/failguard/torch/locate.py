"""Find where a value that is not finite came from, by looking again at the failing batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from failguard.core.finding import Finding, Where
from failguard.torch.batches import non_finite_part, non_finite_rows, split, tensors
from failguard.torch.measure import is_finite
from failguard.torch.protect import unchanged
from failguard.torch.snapshot import clean_name, non_finite_parameters

__all__ = ["call_model", "locate", "owner_of"]


def locate(
    finding: Finding,
    model: nn.Module,
    batch: Any = None,
    *,
    run_again: Callable[[], Any] | None = None,
    random_state: tuple[Tensor, Tensor | None] | None = None,
) -> Where | None:
    """The place of a value that is not finite: the batch, a weight, a module's output, the loss or a gradient.

    Looked at in this order, as each explains those after it. The model, its gradients and the random streams are left
    as they were.

    Args:
        finding: What was found, with the step it was seen at.
        model: The model.
        batch: The failing batch, ``None`` where it was not kept.
        run_again: Runs the forward pass of that batch once more and returns the loss, or anything else; ``None`` where
            that cannot be done.
        random_state: That of the start of the batch.

    Returns:
        The place, ``None`` where nothing more can be said.
    """
    step = finding.step
    part = None if batch is None else non_finite_part(batch)
    if part is not None:
        return Where(tensor=part, batch=step, rows=non_finite_rows(batch, part))
    bad_weights = non_finite_parameters(model)
    if bad_weights:
        return Where(module=owner_of(bad_weights[0]), tensor="weight", batch=step)
    if finding.code == "weights.non_finite":
        return None
    order: list[str] = []
    place: Where | None = None
    if run_again is not None and batch is not None:
        place = _first_bad_output(model, run_again, random_state, order, step)
    if place is not None:
        return place
    if finding.code == "loss.non_finite":
        return Where(tensor="loss", batch=step)
    return _last_bad_gradient(model, order, step)


def call_model(model: nn.Module, batch: Any) -> Any:
    """Call a model on a batch by the usual conventions: ``model(inputs)``, or ``model(**batch)`` for a mapping."""
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    inputs, _ = split(batch)
    if isinstance(batch, dict):
        return model(**{k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()})
    if isinstance(inputs, list | tuple):
        return model(*(v.to(device) if isinstance(v, Tensor) else v for v in inputs))
    return model(inputs.to(device) if isinstance(inputs, Tensor) else inputs)


def owner_of(parameter: str) -> str:
    """The module that a parameter belongs to: ``"net.0"`` for ``"net.0.weight"``."""
    return parameter.rpartition(".")[0] or parameter


def _first_bad_output(
    model: nn.Module,
    run_again: Callable[[], Any],
    random_state: tuple[Tensor, Tensor | None] | None,
    order: list[str],
    step: int,
) -> Where | None:
    """Run forward once more without gradients, every module watched.

    Args:
        order: Filled with the names of modules in the order in which they were called.
    """
    watch = _Watch(model, order)
    # Without gradients a user's own backward or optimizer step in there cannot do anything: it raises.
    with unchanged(model, random_state), torch.no_grad(), _eager(), watch:
        try:
            run_again()
        except Exception:  # noqa: BLE001 - what was seen until then counts
            pass
    if watch.culprit is None:
        return None
    name, tensor = watch.culprit
    return Where(module=name, tensor=tensor, batch=step)


class _Watch:
    """Hooks on every module that remember the first output which is not finite."""

    def __init__(self, model: nn.Module, order: list[str]) -> None:
        self.culprit: tuple[str, str] | None = None
        self._order = order
        self._inside: list[str] = []
        self._names = {m: clean_name(name) or type(m).__name__ for name, m in model.named_modules()}
        self._root = type(model).__name__
        self._hooks = ExitStack()

    def __enter__(self) -> None:
        for module in self._names:
            before = module.register_forward_pre_hook(self._enter, with_kwargs=True)
            after = module.register_forward_hook(self._leave)
            self._hooks.callback(before.remove)
            self._hooks.callback(after.remove)

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        # A bad input whose producer is no module was made by the code of the module that calls this one.
        if self.culprit is None and _is_bad((args, kwargs)):
            self.culprit = (self._inside[-1] if self._inside else self._root, "output")
        self._inside.append(self._names[module])
        self._order.append(self._names[module])

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._inside:
            self._inside.pop()
        if self.culprit is None and _is_bad(output):
            is_loss = isinstance(module, nn.modules.loss._Loss)
            self.culprit = (self._names[module], "loss" if is_loss else "output")


def _last_bad_gradient(model: nn.Module, order: list[str], step: int) -> Where | None:
    """The module with a bad parameter gradient that comes last in forward order: backward reached it first."""
    bad = {}
    for name, p in model.named_parameters():
        if p.grad is not None and not is_finite(p.grad.coalesce().values() if p.grad.is_sparse else p.grad):
            bad[owner_of(clean_name(name))] = True
    if not bad:
        return None
    position = {name: i for i, name in enumerate(order)}
    last = max(enumerate(bad), key=lambda item: (position.get(item[1], -1), item[0]))[1]
    return Where(module=last, tensor="gradient", batch=step)


def _is_bad(values: Any) -> bool:
    return not all(is_finite(t) for t in tensors(values))


@contextmanager
def _eager() -> Iterator[None]:
    """Compiled modules run as plain Python, as hooks in them do not fire otherwise."""
    set_stance = getattr(torch.compiler, "set_stance", None)  # from torch 2.6
    if set_stance is None:
        yield
        return
    with set_stance("force_eager"):
        yield
