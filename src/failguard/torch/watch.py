"""What is measured in each training step, for loops and Lightning alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from torch import Tensor, nn

from failguard.core.capsule import CapsuleInfo, CapsuleRefused
from failguard.core.codes import NON_FINITE_CODES
from failguard.core.decision import Decision
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Where
from failguard.errors import InputError
from failguard.guard import Guard
from failguard.torch.arrivals import Arrivals
from failguard.torch.batches import BatchReader
from failguard.torch.capture import Capture
from failguard.torch.datasets import held_rows
from failguard.torch.explain import explain
from failguard.torch.graph import read_graph
from failguard.torch.inspect import add_graph_facts, loss_module_name
from failguard.torch.locate import locate
from failguard.torch.look_inside import LookInside
from failguard.torch.measure import Sentinel, global_norm, gradients, loss_value
from failguard.torch.protect import random_state
from failguard.torch.snapshot import RunningStatistics, Snapshot, non_finite_parameters

__all__ = ["StepWatch", "drop_gradients", "parameters_of"]

KEEP_STATISTICS_EVERY = 64  # steps between copies of the running statistics
WEIGHED_STEPS = 64  # at least, between two looks at what ordinary steps cost
IN_STEP_EVERY = 32  # steps between full gradient passes where several ranks must make them at the same step
FAR_LOSS = 100.0  # times the largest loss of late, for the batch to be looked at out of turn
LEVEL_DECAY, LEAST_LOOKS = 0.9, 8  # of what counts as of late: a full look at a step each

RandomState = tuple[Tensor, Tensor | None]


class StepWatch:
    """Measures each batch of one run, tells its guard, and is the guard's :class:`~failguard.core.host.Host`.

    Every number is read at once, as on a CPU that costs next to nothing. See
    :class:`~failguard.torch.device.DeviceStepWatch` for accelerators.

    Attributes:
        keeps_random: A second forward pass of a batch needs the random state of the first.
        is_fine: The quick look at the batch in progress has found nothing.
        quick_s: Seconds that the short way through ordinary steps took, not handed over yet.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        stop: Callable[[Decision], None],
        run_again: Callable[[Any], Any] | None = None,
        in_step: bool = False,
        looks_inside: bool = True,
    ) -> None:
        """Args:
        model: The model.
        stop: Asks the framework to end training.
        run_again: Runs the forward pass of a batch once more; ``None`` where that is not possible.
        in_step: Several ranks train together: full gradient passes fall on the same steps on all of them.
        looks_inside: Layers, activations and predictions are sampled. Of several ranks one is enough, and only where
            it has whole parameters and their gradients, as with ``DistributedDataParallel``.
        """
        self._model = model
        self._stop = stop
        self._run_again = run_again
        self._in_step = in_step
        self._looks_inside = looks_inside
        self._snapshot = Snapshot(model)
        self._sentinels: dict[int, Sentinel] = {}
        self._graph_is_read = self._facts_are_read = False
        self._batch: Any = None
        self._random: RandomState | None = None
        self._loss: Any = None
        self._has_loss = False
        self._has_bad_loss = False
        self._updates = 0
        self._scale: float | Tensor | None = None
        self.keeps_random = False
        self._inside: LookInside | None = None
        self._capture: Capture | None = None
        self._starts_epoch = True  # the first batch of a loop begins an epoch that nobody announces
        self._keep_statistics_at = math.inf
        self._chores_at = math.inf
        self._newest_optimizer: Any = None
        # For the quick look:
        self._quick_optimizer: Any = None
        self._quick_parameter: Any = None
        self._full_look_at: float = 0
        self._next_norm_at = 0
        self.is_fine = False
        self._first_step = self._weighed_at = 0
        self._unweighed_s = self.quick_s = 0.0
        self._loss_level = 0.0  # the largest loss of late, at full looks
        self._loss_looks = 0
        self._loss_limit = math.inf  # a loss above it: the batch is looked at

    def start(self, guard: Guard, facts: Facts, optimizers: Sequence[Any] = ()) -> None:
        """The run begins; the model is complete and on its device.

        Args:
            guard: Is told of everything.
            facts: The facts that the guard was started with; filled in from the first batches.
            optimizers: Those that the framework knows of. Some may rest at first.
        """
        self._guard = guard
        self._first_step = self._weighed_at = guard.step
        self._facts = facts
        self._reader = BatchReader(facts, check_data=guard.settings.check_data, budget=guard.accounting.budget)
        self._statistics = RunningStatistics(self._model)
        if self._looks_inside and guard.settings.detectors != "minimal":
            self._inside = guard.containment.run("looking inside", self._look_inside_of, optimizers)
        # Without dropout modules a second forward pass is the same, and the state of a stream costs microseconds.
        self.keeps_random = facts.model.dropout is not None
        self._keep_statistics_at = self._index() if len(self._statistics) else math.inf
        self._chores_at = min(self._keep_statistics_at, self._reader.next_at)

    def capture(
        self,
        guard: Guard,
        module: nn.Module,
        optimizers: Sequence[Any],
        facts: Facts,
        loss_fn: Callable[..., Any] | None = None,
    ) -> None:
        """Keep what it takes to try remedies, where the user wants that. Call before :meth:`start`.

        Args:
            guard: Of the run.
            module: The user's own model, without wrappers.
            optimizers: Those that train it.
            facts: Of the run.
            loss_fn: See :class:`~failguard.torch.capture.Capture`.
        """
        if not guard.settings.verify_remedies:
            return
        try:
            if self._in_step:
                raise CapsuleRefused("several ranks train together")
            self._capture = Capture(module, optimizers, facts, step=guard.step, loss_fn=loss_fn)
        except CapsuleRefused as refusal:
            guard.note(f"Remedies cannot be tried after a failure: {refusal}.")

    # One batch

    def begin_batch(self, batch: Any) -> bool:
        """A batch is about to be trained on, or was just now. It is kept until :meth:`end_batch`.

        Args:
            batch: Of any structure; ``None`` where it is not known.

        Returns:
            Whether nothing else was due. What was is accounted for.
        """
        self._batch = batch
        self._loss = None
        self._has_loss = self._has_bad_loss = self.is_fine = False
        self._updates = 0
        if self._guard.step < self._chores_at:
            return True
        self._do_chores(batch)
        return False

    def remember_random_state(self) -> None:
        """The next forward pass starts here. Call it where :attr:`keeps_random` says so."""
        self._random = random_state()

    def see_loss(self, loss: Any) -> None:
        """The loss of the batch, before backward or after. It is read before the update."""
        self._loss = loss
        if not self._graph_is_read:
            self._guard.containment.run("reading the loss", self._read_graph, loss)
            self._graph_is_read = True

    def see_loss_scale(self, scale: float | Tensor | None) -> None:
        """What a mixed-precision scaler multiplies the loss of this batch by, see :func:`loss_scale`."""
        self._scale = scale

    @property
    def has_loss(self) -> bool:
        """Whether the batch in progress has shown a loss."""
        return self._has_loss or self._loss is not None

    def all_fine(self, optimizer: Any, factor: float) -> bool:
        """The quick look before an update, at the loss and one gradient. Nearly every step needs no other.

        It is written for speed: a torch operation costs about 10 microseconds when caches are cold, as they are within
        a step, and each call of ours about one.

        Args:
            optimizer: As in :meth:`before_update`.
            factor: As in :meth:`before_update`.

        Returns:
            Whether all is fine. Otherwise nothing was done, and :meth:`before_update` must be called.
        """
        guard, loss = self._guard, self._loss
        if (
            optimizer is not self._quick_optimizer
            or guard.step >= self._full_look_at
            or guard.should_stop
            or loss is None
            or self._updates
        ):
            return False
        try:
            value = loss.item()
            together = value + self._quick_parameter.grad.sum().item()
        except Exception:  # noqa: BLE001 - the full look names what is wrong
            return False
        # NaN or Inf somewhere, no real number, or a loss far beyond the usual
        if together - together != 0.0 or type(value) is not float or value > self._loss_limit:
            return False
        self._loss = None
        self._has_loss = self.is_fine = True
        self._updates = 1
        guard.record_fine_batch(value if factor == 1 else value * factor)
        return True

    def end_quiet_batch(self) -> bool:
        """The end of a batch that :meth:`all_fine` has seen, where nothing else is due.

        Returns:
            ``False``: something is; nothing was done, and :meth:`end_batch` must be called.
        """
        if self.is_fine and self._loss is None and self._scale is None and self._guard.end_quiet_batch():
            self._batch = None
            return True
        return False

    def before_update(
        self, optimizer: Any, *, factor: float = 1.0, scale: float = 1.0, once_per_batch: bool = False
    ) -> bool:
        """Gradients are ready. Looks at one of them, or now and then at all.

        Args:
            optimizer: Anything with ``param_groups``.
            factor: Makes the loss what it was before accumulation divided it.
            scale: What a loss scaler has multiplied the gradients by.
            once_per_batch: Further calls in a batch are evaluations of the same update, as by LBFGS.

        Returns:
            ``False``: the update must be dropped.
        """
        guard = self._guard
        if self._loss is not None:
            self._record_loss(factor)
        self._newest_optimizer = optimizer
        repeated = once_per_batch and self._updates > 0
        self._updates += 1
        bad = self._has_bad_loss
        norm = None
        if self._updates == 1 and (guard.step % IN_STEP_EVERY == 0 if self._in_step else guard.gradient_due):
            started = perf_counter()
            norm = guard.containment.run("gradient norm", _norm_of_update, optimizer)
            if norm is not None:
                guard.record_gradient(norm / scale, perf_counter() - started)
            every = IN_STEP_EVERY if self._in_step else guard.accounting.gradients.every_steps
            self._next_norm_at = guard.step + every
        sentinel = self._sentinels.get(id(optimizer)) or self._sentinel(optimizer)
        if norm is None:
            value = sentinel.value()
            if value != 0.0:
                bad = True
                guard.check_gradient(value)
        self._quick_optimizer, self._quick_parameter = optimizer, sentinel.parameter
        self._full_look_at = self._next_norm_at
        if self._inside is not None and not bad:
            self._look_inside(self._inside, optimizer, sentinel, scale, wants_update=not repeated)
            self._full_look_at = min(self._next_norm_at, self._inside.next_update_at())
        self._account()
        if repeated and not bad:
            return True
        if guard.allow_update():
            return True
        self._mend_statistics()
        return False

    def end_batch(self, *, factor: float = 1.0) -> None:
        """The batch is over.

        Args:
            factor: As in :meth:`before_update`, for a batch without an update.
        """
        if self._loss is not None:
            self._record_loss(factor)
        if self._scale is not None:
            self._guard.record_loss_scale(float(self._scale))
            self._scale = None
        self._guard.end_batch()
        self._batch = None

    # Between epochs

    def start_epoch(self, epoch: int) -> None:
        """An epoch begins. Layers may have been frozen or unfrozen since the last."""
        self._sentinels.clear()
        self._quick_optimizer = None
        self._starts_epoch = True
        self._chores_at = -1
        self._guard.start_epoch(epoch)

    def settle(self) -> None:
        """Take in everything that was put off. Waiting for a device does no harm here."""
        self._account()
        for finding in self._reader.settle():
            self._guard.report_data(finding)

    def look_before(self, loader: Any, validation: Any) -> None:
        """Look at the data before the first batch, where that changes nothing.

        Args:
            loader: Of the training.
            validation: Loader of the validation.
        """
        started = perf_counter()
        rows = None if self._reader.checks is None else held_rows(loader)
        if rows is not None:
            for finding in self._reader.look_before(rows, held_rows(validation)):
                self._guard.report_data(finding)
        self._guard.accounting.once_s += perf_counter() - started

    def see_validation(self, batch: Any, loader: int = 0) -> bool:
        """A validation batch: its rows are looked for among those of training.

        Args:
            batch: Of any structure.
            loader: Which of several loaders it came from.

        Returns:
            Whether more are to be shown.
        """
        started = perf_counter()
        more = self._guard.containment.run("looking at validation", self._reader.read_validation, batch, loader)
        self._guard.accounting.add("looking at validation", perf_counter() - started)
        return bool(more)

    def close(self) -> None:
        """The run is over: take every hook off the model."""
        if self._inside is not None:
            self._inside.close()
        if self._capture is not None:
            self._capture.close()

    # Host

    def apply(self, decision: Decision) -> None:
        """See :meth:`failguard.core.host.Host.apply`. The pending update is dropped by whoever asked for it."""
        if decision.finding is not None and decision.finding.code in NON_FINITE_CODES:
            self._mend_statistics()
        self._stop(decision)

    def weights_bytes(self) -> int:
        """See :meth:`failguard.core.host.Host.weights_bytes`."""
        return self._snapshot.size_bytes

    def save_weights(self) -> None:
        """See :meth:`failguard.core.host.Host.save_weights`."""
        self._snapshot.save()

    def restore_weights(self) -> None:
        """See :meth:`failguard.core.host.Host.restore_weights`."""
        self._snapshot.restore()

    def non_finite_weights(self) -> list[str]:
        """See :meth:`failguard.core.host.Host.non_finite_weights`. Running statistics count as weights."""
        return [*non_finite_parameters(self._model), *self._statistics.non_finite()]

    def learning_rate(self) -> float | None:
        """See :meth:`failguard.core.host.Host.learning_rate`. Of the first parameter group."""
        groups = getattr(self._newest_optimizer, "param_groups", None)
        rate = groups[0].get("lr") if groups else None
        if isinstance(rate, Tensor):
            return float(rate) if rate.device.type == "cpu" and rate.numel() == 1 else None
        return float(rate) if isinstance(rate, int | float) else None

    def locate(self, finding: Finding) -> Where | None:
        """See :meth:`failguard.core.host.Host.locate`."""
        batch, random = self._kept(finding.step)
        again = self._run_again
        if self._inside is not None:
            self._inside.look_away()
        return locate(
            finding,
            self._model,
            batch,
            run_again=None if again is None else lambda: again(batch),
            random_state=random,
        )

    def write_capsule(self, folder: Path, failed_step: int | None) -> CapsuleInfo | None:
        """See :meth:`failguard.core.host.WritesCapsule.write_capsule`."""
        capture = self._capture
        return None if capture is None else capture.write(folder, self._guard.history.step_series("loss"), failed_step)

    def explain(self, finding: Finding) -> Mapping[str, float]:
        """More evidence for a finding about resources; see :func:`failguard.torch.explain.explain`."""
        return explain(finding, self._facts.batch_size)

    # How it is done

    def _arrivals(self) -> Arrivals:
        """How tensors are read."""
        return Arrivals()

    def _look_inside_of(self, optimizers: Sequence[Any]) -> LookInside:
        facts, reader = self._facts, self._reader
        arrivals, index = self._arrivals(), self._index
        return LookInside(self._model, self._guard, facts, reader, optimizers, arrivals=arrivals, index=index)

    def _look_inside(
        self, inside: LookInside, optimizer: Any, sentinel: Sentinel, scale: Any, *, wants_update: bool
    ) -> None:
        """Show an update to the samples, and find out what they want to see next."""
        if wants_update and inside.wants_update:
            inside.before_update(_optimizers_of(optimizer), sentinel.parameter, scale)
        self._graph_is_read = not inside.wants_loss
        if inside.wants_batch:
            self._chores_at = -1

    def _mend_statistics(self) -> None:
        """A bad forward pass may have reached the running statistics: put back those of some steps before."""
        mended = self._statistics.mend()
        if mended:
            self._guard.note(
                f"The bad batch had reached running statistics ({mended[0]}"
                f"{f' and {len(mended) - 1} more' if len(mended) > 1 else ''}); values of at most "
                f"{KEEP_STATISTICS_EVERY} steps before are back."
            )

    def _account(self) -> None:
        """Hand over the time that ordinary steps took."""
        guard, accounting = self._guard, self._guard.accounting
        accounting.add_past("every step", self.quick_s)
        self._unweighed_s += self.quick_s
        self.quick_s = 0.0
        steps = guard.step - self._weighed_at
        if steps >= WEIGHED_STEPS:
            accounting.weigh_every_step(self._unweighed_s / steps, guard.typical_step_s, guard.step - self._first_step)
            self._weighed_at, self._unweighed_s = guard.step, 0.0

    def _record_loss(self, factor: float) -> None:
        """Of several losses in one batch the first counts, and any that is not finite."""
        loss, self._loss = self._loss, None
        try:
            value = loss.item() if isinstance(loss, Tensor) else loss_value(loss)
            if type(value) is not float:
                value = loss_value(loss)
        except (InputError, RuntimeError):
            self.reject_loss(loss)
            return
        if value - value != 0.0:  # NaN or Inf
            self._has_bad_loss = True
            self._look_for_bad_values()
        elif self._has_loss:
            return
        else:
            if value > self._loss_limit:
                self._look_for_bad_values()
            self._loss_looks += 1
            self._loss_level = max(abs(value), LEVEL_DECAY * self._loss_level)  # so one jump is looked at once
            if self._loss_looks >= LEAST_LOOKS and self._loss_level > 0.0:
                self._loss_limit = FAR_LOSS * self._loss_level
        self._has_loss = True
        self._guard.record_loss(value if factor == 1.0 else value * factor)

    def _look_for_bad_values(self) -> None:
        """Look at the batch whose loss is absurd, for it may have been passed over."""
        batch, guard = self._batch, self._guard
        if batch is not None:
            found = guard.containment.run("looking at batches", self._reader.look_at, batch, guard.step, guard.epoch)
            for finding in found or ():
                guard.report_data(finding)

    def reject_loss(self, loss: Any) -> None:
        """Say once that a loss is none, and what to do about it."""
        try:
            loss_value(loss)
        except InputError as error:
            self._guard.note(f"{error} Until then failguard sees no loss.")

    def _do_chores(self, batch: Any) -> None:
        """What is done in some batches only. Contained here: Lightning's hook for the start of a batch is bare."""
        containment, accounting = self._guard.containment, self._guard.accounting
        started, counted_s = perf_counter(), accounting.counted_s
        containment.run("looking at batches", self._look_at, batch)
        if containment.retired("looking at batches"):
            self._chores_at = math.inf
        accounting.add("looking at batches", perf_counter() - started - (accounting.counted_s - counted_s))

    def _look_at(self, batch: Any) -> None:
        guard, index = self._guard, self._index()
        if index >= self._reader.next_at and batch is not None:
            for finding in self._reader.read(batch, index, guard.epoch):
                guard.report_data(finding)
        if index >= self._keep_statistics_at:
            self._keep_statistics_at = index + KEEP_STATISTICS_EVERY
            self._statistics.keep()
        self._chores_at = min(self._keep_statistics_at, self._reader.next_at)
        if self._inside is not None:
            if self._starts_epoch:
                self._starts_epoch = False
                self._inside.start_epoch()
            self._inside.begin_batch()
            if self._inside.wants_batch:
                self._chores_at = -1
        capture = self._capture
        if capture is not None and capture.wants_batch and guard.failed_at is None:
            guard.containment.run("capture", capture.see, batch, index, self._random if self.keeps_random else None)
            if not guard.containment.retired("capture"):
                self._chores_at = -1

    def _read_graph(self, loss: Any) -> None:
        if self._inside is not None:
            self._inside.see_loss(loss, self._batch)
        if self._facts_are_read:
            return
        self._facts_are_read = True
        graph = read_graph(loss)
        if graph.loss_name is None:  # compiled, or a loss of the user's own
            self._facts.loss_name = self._facts.loss_name or loss_module_name(self._model)
        add_graph_facts(self._facts, graph)
        self._reader.trivial_from = graph.trivial_from
        # Lightning divides for accumulation, and what is recorded is multiplied again.
        self._reader.loss_factor = self._facts.accumulate_batches / graph.divisor
        self._reader.weigh_trivial_loss()

    def _index(self) -> int:
        """Index of the batch in progress over the whole run."""
        return self._guard.step

    def _kept(self, index: int) -> tuple[Any, RandomState | None]:
        """A batch that is still at hand, and the random state before it."""
        return (self._batch, self._random) if index == self._guard.step else (None, None)

    def _sentinel(self, optimizer: Any) -> Sentinel:
        """Choose a gradient to look at; again at the next update if none has one yet."""
        sentinel = Sentinel(self._model, parameters_of(optimizer))
        if sentinel.parameter is not None:
            self._sentinels[id(optimizer)] = sentinel
        return sentinel


def drop_gradients(optimizer: Any) -> None:
    """Keep the pending update away from the weights. Gradients of zero would still move them by momentum and decay."""
    for p in parameters_of(optimizer):
        p.grad = None


def parameters_of(optimizer: Any) -> list[Tensor]:
    """Everything that an optimizer updates, in its order."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def _optimizers_of(optimizer: Any) -> list[Any]:
    """The torch optimizers behind one that stands for several, or is wrapped."""
    return [getattr(o, "optimizer", o) for o in getattr(optimizer, "optimizers", [optimizer])]


def _norm_of_update(optimizer: Any) -> float | None:
    found = gradients(parameters_of(optimizer))
    return global_norm(found) if found else None
