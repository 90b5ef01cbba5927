"""FailGuard for a plain PyTorch loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from types import TracebackType
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from failguard.adapter import GuardCallback, disabled
from failguard.core.decision import Decision
from failguard.core.facts import Facts
from failguard.errors import ConfigurationError, InputError
from failguard.guard import Guard
from failguard.torch.allocator import allocator_probe
from failguard.torch.device import DeviceStepWatch
from failguard.torch.inspect import loss_module_name, model_facts, optimizer_facts, settings_of, versions
from failguard.torch.locate import call_model
from failguard.torch.loss_scale import loss_scale
from failguard.torch.measure import loss_value
from failguard.torch.ranks import COMPARE_EVERY, any_rank, of_each_rank, rank, world_size
from failguard.torch.step_time import StepTimer
from failguard.torch.watch import StepWatch, drop_gradients

__all__ = ["FailGuard"]

AGREE_EVERY = 16  # steps between two agreements of the ranks whether to stop


class FailGuard(GuardCallback):
    """Watches a training loop.

    Example::

        with FailGuard(model, optimizer) as guard:
            for batch in loader:
                optimizer.zero_grad()
                loss = loss_fn(model, batch)
                loss.backward()
                if guard.step(loss=loss, batch=batch):
                    optimizer.step()
                if guard.should_stop:
                    break
            guard.end_epoch(val_loss=validate(model))

    Without ``with``, call :meth:`close` at the end. Where several processes train one model, every one of them needs a
    guard: they agree on stopping at fixed steps, the first writes the record.

    Args:
        model: The model, wrapped or compiled or not.
        optimizer: The optimizer, or several.
        scaler: The gradient scaler of mixed precision. Call :meth:`step` before ``scaler.step(optimizer)``, with the
            unscaled loss.
        loss_fn: Takes the model and a batch and gives the loss. Only ``verify_remedies`` needs it, and only where the
            loss is more than a usual one of ``model(inputs)`` and the targets, which is found out by itself.
        **keywords: See :class:`~failguard.adapter.GuardCallback`.

    Raises:
        ConfigurationError: A keyword, the model or the optimizer cannot be used.
    """

    framework: ClassVar[str] = "torch"

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any | Sequence[Any] | None = None,
        scaler: Any = None,
        *,
        loss_fn: Callable[[Any, Any], Any] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        if loss_fn is not None and not callable(loss_fn):
            raise ConfigurationError(
                f"loss_fn={type(loss_fn).__name__} cannot be used: it is a function of the model and a batch that "
                "gives the loss."
            )
        if not isinstance(model, nn.Module):
            raise ConfigurationError(
                f"model={type(model).__name__} cannot be used: FailGuard takes the torch.nn.Module that is trained, as "
                "in FailGuard(model, optimizer)."
            )
        optimizers = _listed(optimizer)
        for given in optimizers:
            if not hasattr(given, "param_groups"):
                raise ConfigurationError(
                    f"optimizer={type(given).__name__} cannot be used: FailGuard takes an optimizer or a list of them."
                )
        self._model = model
        self._optimizers = optimizers
        self._update = _Update(model, optimizers)
        self._loss_fn = loss_fn
        self._scaler = scaler if scaler is not None else getattr(optimizers[0] if optimizers else None, "scaler", None)
        self._watch: StepWatch | None = None
        self._timer: StepTimer | None = None
        self._timer_at: float = 0
        self._is_short = False
        self._device = torch.device("cpu")
        self._ranks = 1
        self._epoch = self._batches = 0
        self._wants_stop = False
        self._stops = False
        self._gave_up = False  # no guard could be made: said once, not at every step

    # What a loop calls

    def __enter__(self) -> FailGuard:
        self._ensure_started()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        guard = self._guard
        if guard is not None and error is not None:
            guard.containment.run("recording the exception", guard.fail, error)
        self.close()

    def step(self, loss: Any, batch: Any = None) -> bool:
        """One training batch: call it after ``backward`` and before the optimizer's step.

        Args:
            loss: The batch's loss, a number or a tensor with one element.
            batch: What it was computed from, of any structure. With it, the place of a bad value can be named.

        Returns:
            Whether the update may be applied. ``False``: skip the optimizer's step; the gradients are already dropped.
        """
        guard = self._guard or self._ensure_started()
        if guard is None:
            return True
        started, counted_s = perf_counter(), guard.accounting.counted_s
        watch = self._watch
        if watch is not None and self._is_short and loss is not None:
            # Nothing here can fail, or it is contained further down.
            watch.begin_batch(batch)
            watch.see_loss(loss)
            if watch.all_fine(self._update, 1) and guard.step + 1 < self._timer_at and watch.end_quiet_batch():
                watch.quick_s += perf_counter() - started - (guard.accounting.counted_s - counted_s)
                return True
            allowed = guard.containment.run("step", self._finish_step, guard, watch)
        else:
            allowed = guard.containment.run("step", self._step, guard, watch, loss, batch)
        if self._ranks > 1:
            self._batches += 1
            # By the loop's own count and whatever became of the step: a rank that stays away holds up all others.
            if self._batches % AGREE_EVERY == 0:
                guard.containment.run("agreement of ranks", self._agree, guard)
            if self._batches % COMPARE_EVERY == 0:
                guard.containment.run("comparing ranks", self._compare_ranks, guard)
        if guard.containment.retired("step"):
            self._is_short = False
        guard.accounting.add("step", perf_counter() - started - (guard.accounting.counted_s - counted_s))
        return allowed is not False

    @property
    def should_stop(self) -> bool:
        """Whether the loop should end."""
        return self._stops

    def end_epoch(self, metrics: Any = None, /, **more: Any) -> None:
        """An epoch is over, its validation included.

        Args:
            metrics: A mapping of anything that was measured for the epoch: numbers, or tensors with one element.
            **more: The same, by keyword.
        """
        guard = self._ensure_started()
        if guard is None:
            return
        started, counted_s = perf_counter(), guard.accounting.counted_s
        named = {str(name): value for name, value in metrics.items()} if isinstance(metrics, Mapping) else {}
        if metrics is not None and not isinstance(metrics, Mapping):
            guard.note(f"end_epoch got a {type(metrics).__name__} without a name: write end_epoch(val_loss=...).")
        guard.containment.run("end_epoch", self._end_epoch, guard, {**named, **more})
        guard.accounting.add("end_epoch", perf_counter() - started - (guard.accounting.counted_s - counted_s))

    def close(self) -> None:
        """The run is over: write the report. Further calls do nothing.

        Raises:
            TrainingFailure: The run failed, no exception of its own is on its way, and ``raise_on_failure`` is set.
        """
        guard = self._guard
        if guard is None:
            return
        if self._watch is not None:
            guard.containment.run("settle", self._watch.settle)
        if guard.step == 0 and guard.report.exception is None:
            guard.note(
                "No training batch was seen: the data is empty, or guard.step(loss=..., batch=...) is not called in "
                "the loop."
            )
        if self._watch is not None:
            self._watch.close()
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        self._end()
        self._watch = None
        failure = guard.failure()
        if failure is not None:
            raise failure

    # How it is done

    def _ensure_started(self) -> Guard | None:
        """The guard of the run, started if it has not been; ``None`` when guards are disabled."""
        if self._guard is not None:
            return self._guard
        if self._gave_up or disabled():
            return None
        device = next((p.device for p in self._model.parameters()), torch.device("cpu"))
        self._ranks = world_size()
        self._device = device
        self._epoch = 0
        self._wants_stop = self._stops = False
        kind = DeviceStepWatch if device.type == "cuda" else StepWatch
        watch = kind(
            self._model,
            stop=self._on_stop,
            # A forward pass on one rank alone might wait for the others.
            run_again=None if self._ranks > 1 else lambda batch: call_model(self._model, batch),
            in_step=self._ranks > 1,
            looks_inside=self._ranks == 1 or (rank() == 0 and isinstance(self._model, DistributedDataParallel)),
        )
        guard = self._begin(watch)
        if guard is None:
            self._gave_up = True
            return None
        self._watch = watch
        started = perf_counter()
        guard.containment.run("start", self._start, guard, watch)
        if guard.containment.retired("start"):
            self._watch = None
        guard.accounting.add("start", perf_counter() - started)
        return guard

    def _start(self, guard: Guard, watch: StepWatch) -> None:
        scaled = self._scaler is not None and bool(self._scaler.is_enabled())
        optimizer = optimizer_facts(self._optimizers, clipping=None, schedule=None)
        facts = Facts(
            framework=self.framework,
            versions=versions("accelerate"),
            config=settings_of(optimizer),
            optimizer=optimizer,
            model=model_facts(_unwrapped(self._model)),
            loss_name=loss_module_name(self._model),
            loss_scaled=scaled,
            device=str(self._device),
            world_size=self._ranks,
        )
        probe = allocator_probe(self._device)
        if probe is not None:
            guard.resources.add_probe("torch allocator", *probe)
        guard.start(facts, writes=rank() == 0)
        guard.containment.run(
            "capture", watch.capture, guard, _unwrapped(self._model), self._optimizers, facts, self._loss_fn
        )
        self._timer = StepTimer(self._model, self._optimizers, guard)
        self._timer_at = self._timer.next_step
        watch.start(guard, facts)
        # The short way through a step has no room for what a scaler, other ranks or a random stream need.
        self._is_short = self._scaler is None and self._ranks == 1 and not watch.keeps_random
        guard.start_epoch(0)
        if watch.keeps_random:
            watch.remember_random_state()

    def _step(self, guard: Guard, watch: StepWatch | None, loss: Any, batch: Any) -> bool:
        """A step that is not to be cut short."""
        if watch is None:
            return True
        watch.begin_batch(batch)
        if loss is None:
            watch.reject_loss(loss)
        else:
            watch.see_loss(loss)
        if self._scaler is not None:
            watch.see_loss_scale(loss_scale(self._scaler))
        watch.all_fine(self._update, 1)
        return self._finish_step(guard, watch)

    def _finish_step(self, guard: Guard, watch: StepWatch) -> bool:
        """What is left to do for a batch after the quick look."""
        allowed = watch.is_fine or watch.before_update(self._update, scale=self._scale(), once_per_batch=True)
        if not allowed:
            drop_gradients(self._update)
        watch.end_batch()
        if self._timer is not None and guard.step >= self._timer.next_step:
            guard.containment.run("timing steps", self._timer.at_step)
            self._timer_at = self._timer.next_step
        if watch.keeps_random:
            watch.remember_random_state()
        return allowed

    def _scale(self) -> Any:
        """What the gradients are multiplied by at the moment."""
        scale = loss_scale(self._scaler)
        if scale is None:
            return 1.0
        # Unscaled already, as gradient clipping asks for. There is no public way to know.
        states = getattr(self._scaler, "_per_optimizer_states", {})
        if any(
            getattr(states[id(o)].get("stage"), "name", "") == "UNSCALED" for o in self._optimizers if id(o) in states
        ):
            return 1.0
        return scale

    def _end_epoch(self, guard: Guard, metrics: dict[str, Any]) -> None:
        if self._watch is None:
            return
        self._watch.settle()
        guard.spent("validation")
        if self._timer is not None:
            self._timer.spoil()
            self._timer_at = self._timer.next_step
        numbers: dict[str, float] = {}
        for name, value in metrics.items():
            try:
                numbers[name] = loss_value(value)
            except InputError:
                guard.note(f"The metric {name}={type(value).__name__} is not one real number and was left out.")
        validated = any(name == self.settings.monitor or name.startswith("val") for name in numbers)
        guard.end_epoch(numbers, validated=validated)
        self._epoch += 1
        self._watch.start_epoch(self._epoch)

    def _agree(self, guard: Guard) -> None:
        """Stop on every rank as soon as one wants to."""
        self._stops = any_rank(self._wants_stop, self._device)
        if self._stops and not guard.should_stop:
            guard.should_stop = True
            guard.note("Another rank asked to stop; its log says why.")

    def _compare_ranks(self, guard: Guard) -> None:
        """Find the one that holds up the others."""
        guard.resources.compare_ranks(of_each_rank(guard.resources.own_step_s, self._device))

    def _on_stop(self, decision: Decision) -> None:
        self._wants_stop = True
        self._stops = self._ranks == 1


class _Update:
    """All parameters that one step of the loop updates, as one optimizer has them."""

    def __init__(self, model: nn.Module, optimizers: Sequence[Any]) -> None:
        self._optimizers = optimizers
        self._every = [{"params": [p for p in model.parameters() if p.requires_grad]}]

    @property
    def optimizers(self) -> Sequence[Any]:
        """The torch optimizers, as far as they are known."""
        return self._optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        if not self._optimizers:
            return self._every
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]


def _unwrapped(model: nn.Module) -> nn.Module:
    """The user's own model inside torch.compile's and data parallel's wrappers."""
    for name in ("_orig_mod", "module"):
        inner = getattr(model, name, None)
        if (
            isinstance(inner, nn.Module)
            and len(list(model.children())) == 1
            and type(model).__module__.startswith("torch")
        ):
            return _unwrapped(inner)
    return model


def _listed(optimizer: Any) -> list[Any]:
    if optimizer is None:
        return []
    return list(optimizer) if isinstance(optimizer, list | tuple) else [optimizer]
