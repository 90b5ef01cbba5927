"""FailGuard for Lightning."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any, ClassVar

from failguard.adapter import GuardCallback, hook
from failguard.core.containment import Containment
from failguard.core.decision import Decision
from failguard.core.facts import Facts
from failguard.guard import Guard
from failguard.lightning.again import training_step_again
from failguard.lightning.checkpoints import checkpoint_bytes, checkpoint_folders
from failguard.lightning.facts import gradient_scale, logger_run, read_facts
from failguard.lightning.framework import callback_base
from failguard.lightning.metrics import EpochMetrics, logs_at_epoch_end
from failguard.lightning.rivals import watches
from failguard.lightning.step_time import StepTimer
from failguard.torch.allocator import allocator_probe
from failguard.torch.device import DeviceStepWatch
from failguard.torch.loss_scale import loss_scale
from failguard.torch.ranks import COMPARE_EVERY, any_rank, of_each_rank, world_size
from failguard.torch.watch import StepWatch, drop_gradients

__all__ = ["FailGuard"]

AGREE_EVERY = 16  # steps between two agreements of the ranks whether to stop


class FailGuard(GuardCallback, callback_base()):  # type: ignore[misc]
    """Watches a fit. Works in the trainers of ``lightning`` and of ``pytorch_lightning``.

    Example::

        trainer = L.Trainer(max_epochs=20, callbacks=[FailGuard(monitor="val_loss", patience=10)])
        trainer.fit(model, datamodule=data)

    ``validate``, ``test`` and ``predict`` are left alone. Checkpoint files hold the weights as they were when they were
    saved; ``restore_best_weights`` concerns the live model after the fit. The guard's own state goes into checkpoints
    and comes back with ``fit(ckpt_path=...)``.

    A metric logged in ``LightningModule.on_train_epoch_end`` comes too late for the end of its epoch; if it is the
    monitored one, the epoch is looked at when the next begins.

    The keywords are those of :class:`~failguard.adapter.GuardCallback`.

    Raises:
        ConfigurationError: A keyword cannot be used.
    """

    framework: ClassVar[str] = "lightning"

    # Set on the instance for the time of a fit only, so that a guard copies and pickles before and after.
    _trainer: Any = None
    _module: Any = None
    _host: StepWatch | None = None  # from the beginning
    _watch: StepWatch | None = None  # the same, once the run has started
    _was_begun: bool = False
    _metrics: EpochMetrics
    _is_scaled: bool = False
    _batch_idx: int = 0
    _clip: Any = None  # the trainer's clipping, taken off for a step
    _late_epoch: tuple[dict[str, float], bool] | None = None
    _epoch_began_at: int = -1  # step
    _wants_stop: bool = False
    _has_agreed: bool = False
    _ranks: int = 1
    _batches: int = 0  # of this fit, the same on every rank
    _timer: StepTimer | None = None
    _validation_began_at: float | None = None
    _sees_validation: bool = False  # its rows are looked for among those of training
    _saving_since: float | None = None

    _state: Mapping[str, Any] | None = None  # from a checkpoint, or of the last fit
    _failure: Exception | None = None

    # The run begins

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """A guard is made as soon as possible, so that errors of the first hooks are recorded too."""
        if stage == "fit":
            Containment().run("setting up the guard", self._set_up, trainer, pl_module)

    def _set_up(self, trainer: Any, pl_module: Any) -> None:
        if not watches(self, trainer):
            return
        self._failure = self._state = None
        kind = DeviceStepWatch if trainer.strategy.root_device.type == "cuda" else StepWatch
        ranks = trainer.world_size
        host = kind(
            pl_module,
            stop=self._stop,
            # A forward pass on one rank alone might wait for the others.
            run_again=self._run_again if ranks == 1 else None,
            in_step=ranks > 1,
            # Not in a class derived from it, such as DeepSpeed's, which shares parameters among ranks.
            looks_inside=ranks == 1 or (trainer.is_global_zero and type(trainer.strategy).__name__ == "DDPStrategy"),
        )
        if self._begin(host) is not None:
            self._trainer, self._module, self._host = trainer, pl_module, host
            self._metrics = EpochMetrics()

    @hook
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Everything is known now: data, optimizers, the state of a checkpoint."""
        self._start()

    @hook
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Nothing is measured here, but the last epoch may still be open."""
        self._close_late_epoch(trainer)
        self._count_checkpoint()
        if self._watch is not None and self._guard is not None:
            self._watch.start_epoch(trainer.current_epoch)
            self._epoch_began_at = self._guard.step

    # One batch

    # The next four are not wrapped: the wrapper would cost as much as they do. What they do cannot fail, or is
    # contained and accounted for further down.

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Keep the batch and the random state, to look again if it turns out bad."""
        watch = self._watch
        if watch is not None:
            started = perf_counter()
            self._batch_idx = batch_idx
            guard, timer = self._guard, self._timer
            if guard is not None and timer is not None:
                if self._saving_since is not None:
                    guard.containment.run("checkpoints", self._count_checkpoint)
                if guard.step >= timer.next_step:
                    guard.containment.run("timing steps", timer.at_step)
            if watch.keeps_random:
                watch.remember_random_state()
            if watch.begin_batch(batch):
                watch.quick_s += perf_counter() - started

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        """The loss, divided for accumulation. A loss scaler scales it too; then the end of the batch has it."""
        watch = self._watch
        if watch is not None and not self._is_scaled:
            watch.see_loss(loss)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Gradients are complete, unscaled, reduced over ranks and not clipped yet."""
        watch = self._watch
        if watch is not None:
            started = perf_counter()
            if watch.all_fine(optimizer, trainer.accumulate_grad_batches):
                watch.quick_s += perf_counter() - started
            else:
                self._look_closer(trainer, pl_module, optimizer)

    @hook
    def _look_closer(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        watch = self._watch
        if watch is None:
            return
        scale = loss_scale(getattr(trainer.precision_plugin, "scaler", None)) if self._is_scaled else None
        watch.see_loss_scale(scale)
        allowed = watch.before_update(
            optimizer,
            factor=trainer.accumulate_grad_batches,
            scale=gradient_scale(optimizer, scale),
            once_per_batch=pl_module.automatic_optimization,
        )
        if not allowed and not self._is_scaled:
            drop_gradients(optimizer)
            if trainer.gradient_clip_val is not None:  # None for this step: clipping by value raises without gradients
                self._clip, trainer.gradient_clip_val = trainer.gradient_clip_val, None

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """The batch is done."""
        watch = self._watch
        if watch is not None:
            started = perf_counter()
            if self._ranks == 1 and self._clip is None and watch.end_quiet_batch():
                watch.quick_s += perf_counter() - started
            else:
                self._end_batch(trainer, outputs)
        if self._ranks > 1:
            self._batches += 1
            # By the loop's own count and whatever became of the batch: a rank that stays away holds up all others.
            if self._batches % AGREE_EVERY == 0:
                self._agree(trainer)
            if self._batches % COMPARE_EVERY == 0:
                self._compare_ranks(trainer)

    @hook
    def _end_batch(self, trainer: Any, outputs: Any) -> None:
        watch, guard = self._watch, self._guard
        if watch is None or guard is None:
            return
        if self._clip is not None:
            trainer.gradient_clip_val, self._clip = self._clip, None
        factor = trainer.accumulate_grad_batches
        if not watch.has_loss and isinstance(outputs, Mapping) and outputs.get("loss") is not None:
            watch.see_loss(outputs["loss"])  # divided too
        watch.end_batch(factor=factor)

    # One epoch

    @hook
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Remember what was logged before, to know what this validation logs."""
        if not trainer.sanity_checking:
            self._count_checkpoint()
            self._validation_began_at = perf_counter()
            if self._timer is not None:
                self._timer.spoil()
            self._metrics.start_validation(trainer.callback_metrics)

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Are these rows of the training? Asked in the first validation."""
        if self._sees_validation and self._watch is not None:
            self._sees_validation = self._watch.see_validation(batch, dataloader_idx)

    @hook
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """The last validation of an epoch counts."""
        if not trainer.sanity_checking:
            self._sees_validation = False
            self._metrics.end_validation(trainer.callback_metrics)
            if self._validation_began_at is not None and self._guard is not None:
                self._guard.spent("validation", perf_counter() - self._validation_began_at)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """The epoch is over, its validation included."""
        self._end_epoch(trainer, pl_module)
        if self._ranks > 1:
            self._agree(trainer)

    @hook
    def _end_epoch(self, trainer: Any, pl_module: Any) -> None:
        guard, watch = self._guard, self._watch
        if guard is None or watch is None:
            return
        watch.settle()
        if guard.step == self._epoch_began_at:  # a late end of the last epoch has stopped the run before this one
            return
        metrics, validated = self._metrics.end_epoch(trainer.callback_metrics)
        if self.settings.monitor not in metrics and logs_at_epoch_end(pl_module):
            self._late_epoch = (metrics, validated)
            return
        guard.end_epoch(metrics, validated=validated)

    def _close_late_epoch(self, trainer: Any) -> None:
        """End the epoch that waited for metrics which the module logs after callbacks have run."""
        guard, late = self._guard, self._late_epoch
        if guard is None or late is None:
            return
        self._late_epoch = None
        metrics, validated = late
        guard.end_epoch({**metrics, **self._metrics.end_epoch(trainer.callback_metrics)[0]}, validated=validated)

    # The run ends

    @hook
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The last epoch may still be open."""
        self._count_checkpoint()
        self._close_late_epoch(trainer)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """The fit ended by itself. Checkpoints are written by now, so that best weights may come back."""
        guard = self._guard
        if guard is None:
            return
        if not self._was_begun:
            guard.containment.run("start", self._start)
            guard.note(
                "No training batch was run: the training data loader is empty, or max_epochs, max_steps or "
                "limit_train_batches leaves nothing to do."
            )
        self._finish(guard)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """The fit raised or was interrupted. Lightning calls no hook after this one."""
        guard = self._guard
        if guard is None:
            return
        if not self._was_begun:
            guard.containment.run("start", self._start)
        guard.containment.run("recording the exception", guard.fail, exception)
        self._finish(guard)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """The last hook of a fit.

        Raises:
            TrainingFailure: The run failed and ``raise_on_failure`` is set.
        """
        if stage != "fit":
            return
        if self._guard is not None:  # the learning-rate or batch-size finder left the fit before it began
            self._guard = None
            self._forget()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    # State in checkpoints. Not by state_dict(): Lightning refuses two callbacks that have it under one key, and two
    # equal guards must not end a training.

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """The guard's state goes where Lightning keeps that of callbacks. After the fit it is the last one."""
        guard = self._guard
        if guard is not None and self._watch is not None:
            self._state = guard.containment.run("saving the guard's state", self._state_now, guard)
            self._saving_since = perf_counter()  # no hook says when it is done; the next one comes soon after
        if self._state is not None:
            checkpoint.setdefault("callbacks", {})[self.state_key] = self._state

    @hook
    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: Mapping[str, Any]) -> None:
        """Taken in when training starts."""
        if self._watch is None:
            self._state = (checkpoint.get("callbacks") or {}).get(self.state_key)

    # How it is done

    def _start(self) -> None:
        self._was_begun = True
        guard, watch, trainer = self._guard, self._host, self._trainer
        if guard is None or watch is None:
            return
        facts = guard.containment.run("reading the facts of the run", read_facts, trainer, self._module)
        facts = Facts(framework=self.framework) if facts is None else facts
        self._ranks = trainer.world_size
        self._is_scaled = facts.loss_scaled
        state, self._state = self._state, None
        if state is not None:
            guard.containment.run("taking up the state of a checkpoint", self._take_up, guard, state)
        writes = bool(trainer.is_global_zero)
        run_id, address = logger_run(trainer) if writes else (None, None)
        probe = guard.containment.run("allocator", allocator_probe, trainer.strategy.root_device)
        if probe is not None:
            guard.resources.add_probe("torch allocator", *probe)
        for folder in guard.containment.run("folders of checkpoints", checkpoint_folders, trainer) or ():
            guard.resources.add_directory(folder)
        guard.start(facts, writes=writes, mlflow_run_id=run_id, mlflow_tracking_uri=address)
        guard.containment.run("capture", watch.capture, guard, self._module, trainer.optimizers, facts)
        watch.start(guard, facts, trainer.optimizers)
        loaders = trainer.train_dataloader, trainer.val_dataloaders
        guard.containment.run("looking at the data", watch.look_before, *loaders)
        self._watch = watch
        self._sees_validation = True
        self._timer = StepTimer(trainer, guard, self.state_key)

    def _count_checkpoint(self) -> None:
        """A checkpoint was written since the last hook."""
        since, self._saving_since = self._saving_since, None
        guard = self._guard
        if since is None or guard is None:
            return
        guard.spent("checkpoint", perf_counter() - since)
        size = guard.containment.run("size of checkpoints", checkpoint_bytes, self._trainer)
        if size is not None:
            guard.resources.note_checkpoint(size)
        if self._timer is not None:
            self._timer.spoil()

    def _state_now(self, guard: Guard) -> dict[str, Any]:
        return {"guard": guard.state_dict(), "metrics": self._metrics.state_dict()}

    def _take_up(self, guard: Guard, state: Mapping[str, Any]) -> None:
        guard.load_state_dict(state["guard"])
        self._metrics.load_state_dict(state["metrics"])

    def _run_again(self, batch: Any) -> Any:
        return training_step_again(self._trainer, self._module, batch, self._batch_idx)

    def _stop(self, decision: Decision) -> None:
        """Ask Lightning to end training; among several ranks, once they agree."""
        self._wants_stop = True
        trainer = self._trainer
        if trainer.world_size == 1:
            trainer.should_stop = True
        waits = []
        if trainer.min_epochs and trainer.fit_loop.epoch_progress.current.processed < trainer.min_epochs:
            waits.append(f"min_epochs={trainer.min_epochs}")
        if trainer.min_steps and trainer.global_step < trainer.min_steps:
            waits.append(f"min_steps={trainer.min_steps}")
        if waits and self._guard is not None:
            self._guard.note(f"Lightning trains on until {' and '.join(waits)} of the Trainer, then stops.")

    @hook
    def _agree(self, trainer: Any) -> None:
        """Stop on every rank as soon as one wants to."""
        guard = self._guard
        if self._has_agreed or guard is None:
            return
        if world_size() > 1:
            self._has_agreed = any_rank(self._wants_stop, trainer.strategy.root_device)
        else:  # ranks that torch.distributed does not know
            self._has_agreed = bool(trainer.strategy.reduce_boolean_decision(self._wants_stop, all=False))
        if self._has_agreed:
            trainer.should_stop = True
            if not guard.should_stop:
                guard.should_stop = True
                guard.note("Another rank asked to stop; its log says why.")

    @hook
    def _compare_ranks(self, trainer: Any) -> None:
        """Find the one that holds up the others."""
        guard = self._guard
        if guard is not None:
            guard.resources.compare_ranks(of_each_rank(guard.resources.own_step_s, trainer.strategy.root_device))

    def _finish(self, guard: Guard) -> None:
        if self._timer is not None:
            self._timer.close()
        guard.containment.run("checkpoints", self._count_checkpoint)
        if self._watch is not None:
            guard.containment.run("settle", self._watch.settle)
            self._watch.close()
            self._state = guard.containment.run("saving the guard's state", self._state_now, guard)
        self._end()
        self._failure = guard.failure()
        self._forget()

    def _forget(self) -> None:
        """Let go of trainer and module."""
        for name in _OF_ONE_FIT:
            self.__dict__.pop(name, None)


_OF_ONE_FIT = (
    "_trainer",
    "_module",
    "_host",
    "_watch",
    "_was_begun",
    "_metrics",
    "_is_scaled",
    "_batch_idx",
    "_clip",
    "_late_epoch",
    "_epoch_began_at",
    "_wants_stop",
    "_has_agreed",
    "_ranks",
    "_batches",
    "_timer",
    "_validation_began_at",
    "_sees_validation",
    "_saving_since",
)
