"""Steps of a plain loop timed in parts: a few now and then, by hooks on the model and the optimizers."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

from torch import nn
from torch.optim import Optimizer

from failguard.guard import Guard
from failguard.resources.windows import STEPS, Windows
from failguard.torch.hooks import TracelessHook

__all__ = ["StepTimer"]

COST_S = 8e-6  # of the hooks, a step


class StepTimer:
    """Times from the end of an update to the next forward pass: there the loop fetches its batch.

    What else the loop does there, such as moving the batch to the device, counts as waiting too. Outside of windows no
    hook is in place.

    Attributes:
        next_step: Step at whose end :meth:`at_step` is to be called.
    """

    def __init__(self, model: nn.Module, optimizers: Sequence[Any], guard: Guard) -> None:
        """Args:
        model: The model that the loop calls.
        optimizers: The torch optimizers, as far as they are known.
        guard: Is told of the times.
        """
        self._model = model
        self._optimizers = [o for o in (getattr(o, "optimizer", o) for o in optimizers) if isinstance(o, Optimizer)]
        self._guard = guard
        # With hooks inside, a module that is compiled in place would be compiled anew.
        wanted = guard.resources.limits is not None and getattr(model, "_compiled_call_impl", None) is None
        self._windows = Windows(guard.step, wanted=wanted)
        self.next_step = self._windows.next_step
        self._handles: list[Any] = []
        self._left = 0

    def at_step(self) -> None:
        """The guard has seen a batch, whose update comes next."""
        now = perf_counter()
        if not self._handles:
            self._open(now)
            return
        self._left -= 1
        self._updated_at = now  # until an optimizer says better
        self._waits = True
        if self._left > 0:
            return
        total_s, wait_s, seen = now - self._opened_at, self._wait_s, self._seen
        self.close()
        if seen == STEPS:
            guard = self._guard
            guard.resources.time_steps({"data_wait": wait_s}, total_s, STEPS, guard.step - 1)
        self._guard.accounting.add_past("timing steps", COST_S * STEPS)
        self._windows.closed(self._guard.step, COST_S * STEPS, total_s)
        self.next_step = self._windows.next_step

    def close(self) -> None:
        """Take the hooks off. Further calls do nothing."""
        handles, self._handles = self._handles, []
        for handle in handles:
            handle.remove()
        self.next_step = self._windows.next_step

    def spoil(self) -> None:
        """An epoch ended: what falls between two steps now is more than fetching a batch."""
        if self._handles:
            self.close()

    def _open(self, now: float) -> None:
        self._wait_s, self._seen, self._left = 0.0, 0, STEPS
        self._opened_at = self._updated_at = now
        self._waits = True
        self.next_step = -1  # at every step until the window is closed
        self._handles = [self._model.register_forward_pre_hook(TracelessHook(self._before_forward))]
        self._handles += [o.register_step_post_hook(self._after_update) for o in self._optimizers]

    def _after_update(self, *_: Any) -> None:
        self._updated_at = perf_counter()

    def _before_forward(self, *_: Any) -> None:
        if self._waits:  # the first forward pass of a step
            self._waits = False
            self._wait_s += perf_counter() - self._updated_at
            self._seen += 1
