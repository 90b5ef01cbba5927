"""How model, optimizers and loop are put together: exact checks that read no values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from failguard.core.facts import SetupFacts
from failguard.torch.inspect import NORMALIZATIONS

__all__ = ["SetupWatch", "is_compiled"]

CHECKED_UPDATES = 40  # updates at which missing gradients are looked at
CARRY_CHECKS = 8  # backward passes at which carried-over gradients are looked at
EVALUATIONS = 2  # epochs in which the mode of evaluation is looked at
MOST_NAMES = 50


class SetupWatch:
    """Fills in :class:`~failguard.core.facts.SetupFacts` in the first updates of a run, and then is done.

    Attributes:
        is_done: Nothing more is to be seen at updates.
    """

    def __init__(self, model: nn.Module, facts: SetupFacts) -> None:
        """Args:
        model: The model.
        facts: Filled in.
        """
        self._model = model
        self._facts = facts
        self._named = {id(p): (name, p) for name, p in model.named_parameters()}
        self._without: dict[int, tuple[str, int]] | None = None
        self._held = 0  # scalars in optimizers
        self._optimizers: dict[int, Any] = {}
        self._seen_leaves: set[int] = set()
        self._in_optimizers: set[int] = set()
        self._modal = [m for m in model.modules() if _has_modes(m)]
        self._steps = 0  # of any optimizer
        self._steps_at_backward = 0
        self._handles: list[Any] = []
        self._mode_handle: Any = None
        self._epochs = 0
        self._trained = 0  # forward passes with gradients while modes are looked at
        self._evaluated_after: set[int] = set()  # such passes before each one without
        self.is_done = False

    def see_update(self, optimizers: Sequence[Any], sentinel: Tensor | None) -> None:
        """Gradients of an update are ready.

        Args:
            optimizers: The torch optimizers of this update.
            sentinel: One of their parameters that has a gradient.
        """
        facts = self._facts
        for optimizer in optimizers:
            if id(optimizer) not in self._optimizers:
                self._optimizers[id(optimizer)] = optimizer
                self._meet(optimizer)
        if self._without is None:
            self._without = {}
        for optimizer in optimizers:
            self._seen_leaves.update(id(p) for p in _parameters(optimizer) if p.grad is not None)
        self._seen_leaves.update(key for key, (_, p) in self._named.items() if p.grad is not None)
        facts.gradient_checks += 1
        if sentinel is not None and facts.carry_checks < CARRY_CHECKS and not self._handles:
            self._watch_carry(optimizers, sentinel)
        self._settle()
        if facts.gradient_checks >= CHECKED_UPDATES:
            self.is_done = True
            self.close()

    def see_modes(self) -> None:
        """A training batch is about to be seen, the first of an epoch."""
        if self._modal and not self._model.training and not any(m.training for m in self._modal):
            self._facts.trains_in_eval_mode = True
        self._judge_evaluation()
        self._epochs += 1
        if self._epochs > EVALUATIONS:
            self._drop_mode_handle()
        elif self._mode_handle is None and self._modal and not is_compiled(self._model):
            self._mode_handle = self._modal[0].register_forward_pre_hook(self._see_evaluation)

    def close(self) -> None:
        """Take every hook off. Further calls do nothing."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def finish(self) -> None:
        """The run is over."""
        self._judge_evaluation()
        self.close()
        self._drop_mode_handle()

    # How it is done

    def _meet(self, optimizer: Any) -> None:
        """An optimizer is seen for the first time."""
        held = {id(p) for o in self._optimizers.values() for p in _parameters(o)}
        self._held = sum(p.numel() for o in self._optimizers.values() for p in _parameters(o))
        frozen = [p for o in self._optimizers.values() for p in _parameters(o) if not p.requires_grad]
        self._facts.frozen = self._names(frozen)
        self._facts.frozen_share = _share(frozen, self._held)
        self._in_optimizers = held

    def _set_left_out(self) -> None:
        """A copy for averaging or a teacher gets no gradient, and is left out on purpose."""
        held = self._in_optimizers
        trainable = [p for _, p in self._named.values() if p.requires_grad]
        left = [p for p in trainable if id(p) not in held and id(p) in self._seen_leaves]
        facts = self._facts
        facts.left_out = self._names(left)
        facts.left_out_share = _share(left, sum(p.numel() for p in trainable))
        facts.left_out_last = bool(left) and trainable[-1] is left[-1]

    def _settle(self) -> None:
        """What has had no gradient in any update so far, and what had one for nothing."""
        self._set_left_out()
        every = [p for o in self._optimizers.values() for p in _parameters(o)]
        without = [p for p in every if p.requires_grad and id(p) not in self._seen_leaves]
        # Several optimizers take turns, so nothing is said before each of them had some.
        self._facts.without_gradient = self._names(without)
        self._facts.without_gradient_share = _share(without, self._held)

    def _names(self, parameters: Sequence[Tensor]) -> tuple[str, ...]:
        names = [self._named[id(p)][0] if id(p) in self._named else "a parameter" for p in parameters[:MOST_NAMES]]
        return tuple(names)

    def _watch_carry(self, optimizers: Sequence[Any], sentinel: Tensor) -> None:
        """See at coming backward passes whether the gradients of the last update are still there."""

        def stepped(*_: Any) -> None:
            self._steps += 1

        def before_accumulation(_: Tensor) -> None:
            if self._steps == self._steps_at_backward:
                return  # no update since the last backward pass: gradients add up on purpose
            self._steps_at_backward = self._steps
            facts = self._facts
            if facts.carry_checks < CARRY_CHECKS:
                facts.carry_checks += 1
                facts.carried_over += int(_holds_values(sentinel.grad))

        hooked = [o.register_step_post_hook(stepped) for o in optimizers if hasattr(o, "register_step_post_hook")]
        if len(hooked) == len(optimizers):
            self._handles = [*hooked, sentinel.register_hook(before_accumulation)]
        else:
            for handle in hooked:
                handle.remove()

    def _see_evaluation(self, module: nn.Module, *_: Any) -> None:
        if torch.is_grad_enabled():
            self._trained += 1
        elif module.training:
            self._evaluated_after.add(self._trained)

    def _judge_evaluation(self) -> None:
        """Passes without gradients at one moment of an epoch are a validation; between all its steps, a habit."""
        if len(self._evaluated_after) == 1 and self._trained > 1 and 0 not in self._evaluated_after:
            self._facts.evaluates_in_train_mode = True
        self._evaluated_after = set()

    def _drop_mode_handle(self) -> None:
        if self._mode_handle is not None:
            self._mode_handle.remove()
            self._mode_handle = None


def is_compiled(model: nn.Module) -> bool:
    """Whether a part of a model is compiled: a hook would have it compiled anew, or would not be called."""
    return any(hasattr(m, "_orig_mod") or getattr(m, "_compiled_call_impl", None) for m in model.modules())


def _has_modes(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0.0
    return isinstance(module, NORMALIZATIONS[0]) and bool(getattr(module, "track_running_stats", False))


def _holds_values(gradient: Tensor | None) -> bool:
    if gradient is None or gradient.device.type != "cpu" or gradient.is_sparse:
        return False
    return bool((gradient != 0).any())


def _parameters(optimizer: Any) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _share(parameters: Sequence[Tensor], whole: int) -> float:
    return sum(p.numel() for p in parameters) / whole if whole else 0.0
