"""How model, optimizers and loop are put together: exact checks."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from failguard.core.facts import SetupFacts
from failguard.torch.arrivals import Arrivals
from failguard.torch.hooks import TracelessHook
from failguard.torch.inspect import NORMALIZATIONS

__all__ = ["SetupWatch", "is_compiled"]

CHECKED_UPDATES = 40  # updates at which missing gradients are looked at
CARRY_CHECKS = 8  # backward passes at which carried-over gradients are looked at
EVALUATIONS = 2  # epochs in which the mode of evaluation is looked at
WAITED_UPDATES = 20  # without a gradient before that is said of a parameter
WAITED_CALLS = 4  # batches in which a module would have been called
MOST_NAMES = 50
OF_EVERY_MODULE = frozenset(vars(nn.Module()))


class SetupWatch:
    """Fills in :class:`~failguard.core.facts.SetupFacts` in the first updates of a run, and then is done.

    Attributes:
        is_done: Nothing more is to be seen at updates.
    """

    def __init__(
        self,
        model: nn.Module,
        facts: SetupFacts,
        optimizers: Sequence[Any] = (),
        arrivals: Arrivals | None = None,
    ) -> None:
        """Args:
        model: The model.
        facts: Filled in.
        optimizers: Those that are known from the start; others are met at their updates.
        arrivals: How tensors are read; default at once.
        """
        self._arrivals = arrivals or Arrivals()
        self._model = model
        self._facts = facts
        self._named = {id(p): (name, p) for name, p in model.named_parameters()}
        self._hidden = {id(p): (name, p, p._version) for name, p in _hidden_parameters(model, self._named)}
        self._held = 0  # scalars in optimizers
        self._looks = 0
        self._optimizers: dict[int, Any] = {id(o): o for o in optimizers}
        self._seen_leaves: set[int] = set()
        self._modal = [m for m in model.modules() if _has_modes(m)]
        # Fine-tuning has frozen parts in eval mode, or normalization alone, but not what learns.
        self._learning = [m for m in model.modules() if any(p.requires_grad for p in m.parameters(recurse=False))]
        self._handles: list[Any] = []
        self._idle_steps: dict[int, int] = {}  # of optimizers beside others: steps that found no gradient
        self._step_handles: list[Any] = []
        self._expected_since: dict[int, int] = {}
        self._call_handles: list[Any] = []
        self._uncalled: set[int] = set()
        self._calls_since = 0
        self._mode_handle: Any = None
        self._epochs = 0
        self._trained = 0  # forward passes with gradients while modes are looked at
        self._evaluated_after: set[int] = set()  # such passes before each one without
        self._has_evaluated_rightly = False
        self.is_done = False

    def see_update(self, optimizers: Sequence[Any], sentinel: Tensor | None) -> None:
        """Gradients of an update are ready.

        Args:
            optimizers: The torch optimizers of this update.
            sentinel: One of their parameters that has a gradient.
        """
        if not optimizers:  # they were not shown, so nothing can be said of them
            self.is_done = True
            return
        facts = self._facts
        self._optimizers.update((id(optimizer), optimizer) for optimizer in optimizers)
        # Without any gradient it was no update, but a look before the backward pass.
        has_gradients = self._see_gradients()
        facts.gradient_checks += has_gradients
        facts.updates_without_gradient += not has_gradients
        facts.maximizes = len(optimizers) == 1 and all(g.get("maximize") for g in optimizers[0].param_groups)
        self._looks += 1
        if sentinel is not None and not self._handles:
            self._watch_carry(optimizers, sentinel)
        if len(self._optimizers) > 1:
            self._watch_idle_steps()
        self._settle()
        if self._looks >= CHECKED_UPDATES:
            self.is_done = True
            self.close()

    def see_modes(self) -> None:
        """A training batch is about to be seen, the first of an epoch."""
        if self._modal and not any(m.training for m in (*self._modal, *self._learning)):
            self._facts.trains_in_eval_mode = True
        self._judge_evaluation()
        self._epochs += 1
        if self._epochs > EVALUATIONS:
            self.drop_mode_handle()
        elif self._mode_handle is None and self._modal and not is_compiled(self._model):
            self._mode_handle = self._modal[0].register_forward_pre_hook(TracelessHook(self._see_evaluation))
        if self._optimizers:  # layers may have been frozen, unfrozen or handed to an optimizer
            self._see_gradients()
            self._settle()

    def close(self) -> None:
        """Take every hook off. Further calls do nothing."""
        for handle in (*self._handles, *self._step_handles, *self._call_handles):
            handle.remove()
        self._handles.clear()
        self._step_handles.clear()
        self._call_handles.clear()

    def finish(self) -> None:
        """The run is over."""
        self._judge_evaluation()
        self.close()
        self.drop_mode_handle()

    def drop_mode_handle(self) -> None:
        """Look at no more evaluations until the next epoch."""
        if self._mode_handle is not None:
            self._mode_handle.remove()
            self._mode_handle = None

    # How it is done

    def _see_gradients(self) -> bool:
        """Note which parameters have a gradient now; whether any has."""
        found = {key for key, (_, p) in self._named.items() if p.grad is not None}
        found.update(key for key, (_, p, _) in self._hidden.items() if p.grad is not None)
        found.update(id(p) for o in self._optimizers.values() for p in _parameters(o) if p.grad is not None)
        self._seen_leaves |= found
        return bool(found)

    def _settle(self) -> None:
        """Say what the gradients and optimizers seen so far tell."""
        facts, optimizers = self._facts, list(self._optimizers.values())
        every = [p for o in optimizers for p in _parameters(o)]
        held = {id(p) for p in every}
        self._held = sum(p.numel() for p in every)
        frozen = [p for p in every if not p.requires_grad]
        facts.frozen, facts.frozen_share = self._names(frozen), _share(frozen, self._held)

        # A copy for averaging or a teacher gets no gradient, and is left out on purpose.
        trainable = [p for _, p in self._named.values() if p.requires_grad]
        # Every change counts up a tensor's version: an optimizer that was not shown may have the hidden ones.
        hidden = [p for _, p, version in self._hidden.values() if p._version == version]
        hidden = [p for p in hidden if id(p) not in held and id(p) in self._seen_leaves]
        left = [p for p in trainable if id(p) not in held and id(p) in self._seen_leaves]
        every_trainable = sum(p.numel() for p in (*trainable, *hidden))
        facts.left_out, facts.left_out_share = self._names([*left, *hidden]), _share([*left, *hidden], every_trainable)
        facts.left_out_last = bool(left) and trainable[-1] is left[-1]
        facts.hidden = self._names(hidden)

        # Of several optimizers one may rest at first, as in the training of adversaries. Its step is not made then.
        idle = [
            o for o in optimizers if self._idle_steps.get(id(o), 0) >= WAITED_UPDATES and not self._has_gradients(o)
        ]
        at_work = [o for o in optimizers if len(optimizers) == 1 or self._has_gradients(o) or o in idle]
        expected = [p for o in at_work for p in _parameters(o) if p.requires_grad]
        without = [p for p in expected if id(p) not in self._seen_leaves] if facts.gradient_checks else []
        for p in expected:  # since when a gradient is waited for: layers may be unfrozen while others train
            self._expected_since.setdefault(id(p), facts.gradient_checks)
        for p in (p for o in idle for p in _parameters(o)):
            self._expected_since[id(p)] = 0  # waited for at each of its steps
        waited = [p for p in without if facts.gradient_checks - self._expected_since[id(p)] >= WAITED_UPDATES]
        facts.without_gradient, facts.without_gradient_share = self._names(waited), _share(waited, self._held)
        facts.optimizers = len(optimizers)
        if waited and facts.gradient_checks < CHECKED_UPDATES and not self._call_handles:
            self._watch_calls(waited)
        facts.without_gradient_unused = bool(waited) and all(self._is_uncalled(p) for p in waited)

    def _watch_idle_steps(self) -> None:
        """Count the steps of optimizers that no gradient was seen of. Between two of our looks it may come and go."""
        for optimizer in self._optimizers.values():
            key = id(optimizer)
            if key in self._idle_steps or self._has_gradients(optimizer):
                continue
            self._idle_steps[key] = 0
            if hasattr(optimizer, "register_step_pre_hook"):
                self._step_handles.append(optimizer.register_step_pre_hook(self._see_step))

    def _see_step(self, optimizer: Any, *_: Any) -> None:
        with_gradient = {id(p) for p in _parameters(optimizer) if p.grad is not None}
        self._seen_leaves |= with_gradient
        if not with_gradient:
            self._idle_steps[id(optimizer)] += 1

    def _watch_calls(self, parameters: Sequence[Tensor]) -> None:
        """See whether the modules of these parameters take part in a forward pass at all."""
        wanted = {id(p) for p in parameters}
        for module in self._model.modules():
            own = [id(p) for p in module.parameters(recurse=False) if id(p) in wanted]
            if own and not is_compiled(module) and not isinstance(module, torch.jit.ScriptModule):
                self._uncalled.update(own)
                hook = TracelessHook(lambda *_, own=tuple(own): self._uncalled.difference_update(own))
                self._call_handles.append(module.register_forward_pre_hook(hook))
                self._calls_since = self._looks

    def _is_uncalled(self, parameter: Tensor) -> bool:
        return id(parameter) in self._uncalled and self._looks - self._calls_since >= WAITED_CALLS

    def _has_gradients(self, optimizer: Any) -> bool:
        return any(id(p) in self._seen_leaves for p in _parameters(optimizer))

    def _names(self, parameters: Sequence[Tensor]) -> tuple[str, ...]:
        known = {key: entry[0] for group in (self._hidden, self._named) for key, entry in group.items()}
        return tuple(known.get(id(p), "a parameter") for p in parameters[:MOST_NAMES])

    def _watch_carry(self, optimizers: Sequence[Any], sentinel: Tensor) -> None:
        """See at coming backward passes whether the gradients of the last update are still there."""
        owners = [o for o in optimizers if any(p is sentinel for p in _parameters(o))]
        if len(owners) == 1 and hasattr(owners[0], "register_step_post_hook"):
            carry = _Carry(self._facts, sentinel, self._arrivals)
            self._handles = [
                owners[0].register_step_post_hook(carry.after_step),
                sentinel.register_hook(carry.before_accumulation),
            ]

    def _see_evaluation(self, module: nn.Module, *_: Any) -> None:
        if torch.is_grad_enabled():
            self._trained += 1
        elif module.training:
            self._evaluated_after.add(self._trained)
        else:
            self._has_evaluated_rightly = True

    def _judge_evaluation(self) -> None:
        """Passes without gradients at one moment of an epoch are a validation; between all its steps, a habit.

        Beside a validation in eval mode they are something else, such as new statistics for batch normalization.
        """
        at_once = len(self._evaluated_after) == 1 and self._trained > 1 and 0 not in self._evaluated_after
        if at_once and not self._has_evaluated_rightly:
            self._facts.evaluates_in_train_mode = True
        self._evaluated_after = set()


class _Carry:
    """Looks at one gradient from each step of its optimizer to the next.

    It was carried over where no backward pass in between found it cleared. One that adds to an old gradient before the
    next clearing, such as a generator's through its discriminator, does no harm.
    """

    def __init__(self, facts: SetupFacts, parameter: Tensor, arrivals: Arrivals) -> None:
        self._facts = facts
        self._parameter = parameter
        self._arrivals = arrivals
        self._has_stepped = False  # what was before the first step seen is not known
        self._passes = self._checks = 0
        self._was_clear = False
        self._held: list[Tensor] = []  # whether values were held, at each pass that found a gradient

    @torch.no_grad()
    def before_accumulation(self, _: Tensor) -> None:
        """A backward pass is about to add to the gradient."""
        gradient = self._parameter.grad
        self._passes += 1
        self._was_clear = self._was_clear or gradient is None or gradient.is_sparse
        if gradient is not None and not self._was_clear:
            self._held.append((gradient != 0).any())

    def after_step(self, *_: Any) -> None:
        """The optimizer has made its step."""
        if self._has_stepped and self._passes and self._checks < CARRY_CHECKS:
            self._checks += 1
            was_clear, facts = self._was_clear, self._facts

            def take_in(held: list[Tensor]) -> None:
                facts.carry_checks += 1
                facts.carried_over += int(not was_clear and all(bool(h) for h in held))

            self._arrivals.read([] if was_clear else self._held, take_in)
        self._has_stepped, self._passes, self._was_clear, self._held = True, 0, False, []


def is_compiled(model: nn.Module) -> bool:
    """Whether a part of a model is compiled: a hook would have it compiled anew, or would not be called."""
    return any(hasattr(m, "_orig_mod") or getattr(m, "_compiled_call_impl", None) for m in model.modules())


def _has_modes(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0.0
    return isinstance(module, NORMALIZATIONS[0]) and bool(getattr(module, "track_running_stats", False))


def _hidden_parameters(model: nn.Module, registered: Container[int]) -> Iterator[tuple[str, Tensor]]:
    """Tensors that ask for gradients in attributes that modules do not register: plain lists, dicts and tensors."""
    seen: set[int] = set()
    for owner, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute in OF_EVERY_MODULE:
                continue
            if isinstance(value, Mapping):
                parts = [(f"{attribute}[{key!r}]", part) for key, part in value.items()]
            elif isinstance(value, list | tuple):
                parts = [(f"{attribute}[{i}]", part) for i, part in enumerate(value)]
            else:
                parts = [(attribute, value)] if isinstance(value, Tensor) else []
            for place, part in parts:
                own = part.named_parameters() if isinstance(part, nn.Module) else [("", part)]
                for name, p in own:
                    is_learned = isinstance(p, Tensor) and p.requires_grad and p.is_leaf
                    if is_learned and id(p) not in registered and id(p) not in seen:
                        seen.add(id(p))
                        yield ".".join(filter(None, (owner, place, name))), p


def _parameters(optimizer: Any) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _share(parameters: Sequence[Tensor], whole: int) -> float:
    return sum(p.numel() for p in parameters) / whole if whole else 0.0
