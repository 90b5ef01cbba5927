"""One fit under a guard: what the tap sees goes to the guard, and what the guard decides is done to the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import keras

from failguard.accounting import Cadence
from failguard.core.capsule import CapsuleInfo, CapsuleRefused
from failguard.core.decision import Decision
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Where
from failguard.guard import Guard
from failguard.keras.allocator import allocator_probe
from failguard.keras.batches import BatchReader, arrays
from failguard.keras.broadcast import broadcasts
from failguard.keras.capture import Capture
from failguard.keras.checkpoints import CheckpointWatch
from failguard.keras.frozen import untrained_frozen
from failguard.keras.inspect import learning_rate, model_facts, read_facts, set_trivial_loss
from failguard.keras.internals import InsideFit
from failguard.keras.locate import locate
from failguard.keras.loss import LossFacts, read_loss
from failguard.keras.modes import ModeWatch
from failguard.keras.output import read_output
from failguard.keras.snapshot import BestWeights, MovingState, non_finite_variables
from failguard.keras.step_time import StepTimer
from failguard.keras.tap import Gate, Row, Tap, make_tap
from failguard.keras.validation import validation_batches
from failguard.settings import Settings

__all__ = ["FitWatch"]

PART = "training step"
LEAST_STEPS, MOST_STEPS = 16, 64  # batches taken in at once, while they are fine
SHARE = 0.4  # of the budget for taking them in


class FitWatch:
    """Watches one ``fit`` and is the guard's :class:`~failguard.core.host.Host`.

    Attributes:
        tap: What sees the values of a step, ``None`` before the start.
    """

    def __init__(self, model: Any, params: Mapping[str, Any] | None) -> None:
        """Args:
        model: The model in ``fit``.
        params: What Keras tells callbacks.
        """
        self.tap: Tap | None = None
        self._model = model
        self._params = params or {}
        self._facts = Facts(framework="keras")
        self._best = BestWeights(model)
        self._moving: MovingState | None = None
        self._reader: BatchReader | None = None
        self._inside: InsideFit | None = None
        self._capture: Capture | None = None
        self._wants_capture = False
        self._timer: StepTimer | None = None
        self._checkpoints: CheckpointWatch | None = None
        self._modes: ModeWatch | None = None
        self._first_epoch: int | None = None
        self._has_seen_validation = self._has_seen_frozen = False
        self._in_epoch = False
        self._epoch_start = 0  # step at which the epoch began
        self._failing: Any = None
        self._failing_part: str | None = None
        self._place: tuple[int, Where | None] | None = None
        self._may_run_model = False
        # JAX keeps the weights away from the model while an epoch runs.
        self._has_weights_in_epoch = keras.backend.backend() != "jax"

    def start(
        self,
        guard: Guard,
        on_error: Callable[[BaseException], None],
        left_behind: Callable[[], None],
        callbacks: Sequence[Any] = (),
    ) -> None:
        """The fit begins: read the facts, start the guard, put the tap on.

        Args:
            guard: The guard.
            on_error: Called when a step raises, before the error goes on.
            left_behind: Called when a later fit finds this one still in place.
            callbacks: Of the fit.
        """
        model = self._model
        self._guard, self._on_error = guard, on_error
        self._cadence = Cadence(least=LEAST_STEPS, share=guard.accounting.budget * SHARE)
        self._facts = (
            guard.containment.run("reading the facts of the run", read_facts, model, self._params) or self._facts
        )
        settings = guard.settings
        self._reader = BatchReader(
            self._facts, check_data=settings.check_data, loss=LossFacts(), budget=guard.accounting.budget
        )
        self._moving = guard.containment.run("statistics", MovingState, model)
        if guard.settings.detectors != "minimal":
            self._inside = guard.containment.run("looking inside", InsideFit, model, guard, self._facts)
        probe = guard.containment.run("allocator", allocator_probe)
        if probe is not None:
            guard.resources.add_probe(f"{keras.backend.backend()} allocator", *probe)
        guard.start(self._facts)
        self._wants_capture = bool(guard.settings.verify_remedies)
        if self._facts.model.parameters is not None:
            guard.containment.run("capture", self._start_capture)
        self._timer = guard.containment.run("timing steps", StepTimer, model, guard)
        self._checkpoints = guard.containment.run("checkpoints", CheckpointWatch, callbacks, guard, self._spoil_timer)
        guard.containment.run("tap", self._put_on_tap, left_behind)
        if self.tap is None:
            guard.note(
                "Losses and gradients per step are not seen: the tap could not be put on. Epoch logs are watched."
            )

    def _start_capture(self, built_in_step: bool = False) -> None:
        """Keep the model as it is now, where remedies are to be tried."""
        if not self._wants_capture:
            return
        self._wants_capture = False
        try:
            self._capture = Capture(self._model, self._facts, self._guard.step)
            if built_in_step:
                self._capture.notes.append(
                    "The model was built in its first step, so trials begin with the weights after that step."
                )
        except CapsuleRefused as refusal:
            self._guard.note(f"Remedies cannot be tried after a failure: {refusal}.")

    def _put_on_tap(self, left_behind: Callable[[], None]) -> None:
        tap = make_tap(self._model, gate_for(self._guard.settings), self._guard.containment)
        tap.install(self._after_call, self._on_step_error, left_behind)
        self.tap = tap
        self._facts.drops_bad_updates = tap.drops
        if self._inside is not None:
            self._modes = self._guard.containment.run(
                "modes", ModeWatch, self._model, self._facts.setup, lambda: tap.is_calling
            )
        tap.peeks = self._reader is not None
        if tap.blind is None:
            self._guard.accounting.note_cadence("gradients", 1)
        if tap.blind is not None:
            self._guard.note(tap.blind)

    def close(self) -> None:
        """Take the wrappers off."""
        if self._timer is not None:  # its wrapper lies around the tap's
            self._guard.containment.run("taking the timer off", self._timer.close)
        if self._checkpoints is not None:
            self._guard.containment.run("checkpoints", self._checkpoints.close)
        if self._modes is not None:
            self._guard.containment.run("modes", self._modes.close)
        if self.tap is not None:
            self._guard.containment.run("taking the tap off", self.tap.uninstall)

    def _spoil_timer(self) -> None:
        if self._timer is not None:
            self._timer.spoil()

    # After a call of the train function: one batch, or steps_per_execution of them

    def _after_call(self) -> None:
        guard, tap = self._guard, self.tap
        if tap is None:
            return
        started = perf_counter()
        guard.containment.run(PART, self._look_at_steps, tap)
        if self._timer is not None:
            guard.containment.run("timing steps", self._timer.after_steps, guard.step)
        guard.accounting.add(PART, perf_counter() - started)

    def _on_step_error(self, error: BaseException) -> None:
        # The second is how TensorFlow says that the data ended.
        if not isinstance(error, StopIteration) and type(error).__name__ != "OutOfRangeError":
            self._on_error(error)

    def _look_at_steps(self, tap: Tap) -> None:
        guard, reader = self._guard, self._reader
        started = perf_counter()
        if tap.blind is not None:
            self._count_unseen_steps(tap.blind)
            return
        if self._facts.model.parameters is None:
            self._look_at_built_model()
        rows = tap.take()
        self._take_in(rows)
        newest = guard.step - 1 + tap.batches_ahead
        if self._wants_capture and self._facts.model.parameters is not None and self._has_weights_in_epoch:
            guard.containment.run("capture", self._start_capture, built_in_step=True)
        elif self._capture is not None and self._capture.wants_batch and guard.failed_at is None:
            guard.containment.run("capture", self._capture.see, tap.batch(), newest)
        if reader is None:
            return
        if guard.should_stop:
            if reader.is_at_start and not math.isinf(reader.next_at):
                self._read_batch(reader, tap, newest)  # what is wrong with it may explain the stop
                reader.next_at = math.inf
            return
        if newest >= reader.next_at:
            self._read_batch(reader, tap, newest)
        if not reader.is_at_start:
            self._cadence.ran(guard.step, perf_counter() - started, guard.typical_step_s)
            tap.every_steps = min(self._cadence.every_steps, MOST_STEPS)
            guard.accounting.note_cadence("steps taken in", tap.every_steps)
        if self._inside is not None and reader.is_at_start:
            guard.containment.run("looking inside", self._inside.watch_units, tap)
        else:
            self._look_inside(rows, tap)
        captures = self._capture is not None and self._capture.wants_batch and not guard.containment.retired("capture")
        if captures:
            tap.every_steps = 1
        if tap.may_peek:
            due_next = newest + tap.every_steps
            looks = self._inside is not None and guard.accounting.internals.due(due_next + 1)
            tap.peeks = captures or looks or due_next >= reader.next_at

    def _look_inside(self, rows: list[Row], tap: Tap) -> None:
        if self._inside is None or self._guard.should_stop:
            return
        self._guard.containment.run("looking inside", self._inside.look, rows, tap)
        if self._inside.wants_next_call:
            tap.every_steps = 1

    def _look_at_built_model(self) -> None:
        """A subclassed model may get its weights in the first step only."""
        self._facts.model = model_facts(self._model)
        set_trivial_loss(self._facts, read_loss(self._model))
        if self._moving is not None and self._moving.is_empty and self._has_weights_in_epoch:
            self._moving.keep(self._guard.epoch)

    def _count_unseen_steps(self, why: str) -> None:
        self._guard.note(why)
        self._facts.drops_bad_updates = False
        in_epoch = self._guard.step - self._epoch_start
        left = (self._facts.steps_per_epoch or math.inf) - in_epoch
        for _ in range(int(min(self.tap.steps_per_call if self.tap else 1, left))):
            self._guard.allow_update()
            self._guard.end_batch()

    def _read_batch(self, reader: BatchReader, tap: Tap, step: int) -> None:
        batch = tap.batch()
        if batch is None:
            if not tap.may_peek:  # else it was another call that was due
                reader.next_at, reader.is_at_start = math.inf, False
            return
        if reader.next_at == 0:  # only now is it known what layers add to the loss
            reader.loss = read_loss(self._model)
            self._facts.output = output = read_output(self._model, reader.loss)
            targets = arrays(keras.utils.unpack_x_y_sample_weight(batch)[1])
            if reader.loss.kind is None and output.shape is not None and len(targets) == 1:
                output.target_shape = tuple(targets[0].shape)
                output.is_broadcast = broadcasts(self._model.loss, output.shape, output.target_shape)
        for finding in reader.read(batch, step, self._guard.epoch):
            self._guard.report_data(finding)

    def _take_in(self, rows: list[Row]) -> None:
        guard = self._guard
        if not rows:
            return
        losses = [row.loss for row in rows]
        norms = [row.norm for row in rows if row.norm is not None]
        # The sum of finite values may overflow; then each is looked at, and none is found.
        is_fine = math.isfinite(sum(losses) + sum(norms))
        bad = None if is_fine else next((row for row in rows if row.is_bad), None)
        if bad is not None:
            self._failing, self._failing_part = bad.batch, bad.part
            self._may_run_model = self._has_weights_in_epoch
            if self._capture is not None:
                step = guard.step + rows.index(bad)
                guard.containment.run("capture", self._capture.see_failing, bad.batch, step)
        guard.record_rows(
            losses,
            norms if len(norms) == len(rows) else [],
            dropped=sum(row.dropped for row in rows),
        )
        if self.tap is not None and self.tap.is_scaled and self._has_weights_in_epoch:
            guard.record_loss_scale(float(self._model.optimizer.dynamic_scale))
        self._failing = self._failing_part = None
        self._may_run_model = False

    # Epochs

    def start_epoch(self, epoch: int) -> None:
        """An epoch begins."""
        guard = self._guard
        if self._first_epoch is None:
            self._first_epoch = epoch
            if epoch and self._facts.max_epochs is not None:
                self._facts.max_epochs -= epoch  # the plan of this fit
        if self._moving is not None and not guard.should_stop:
            guard.containment.run("statistics", self._moving.keep, epoch)
        self._epoch_start = guard.step
        self._in_epoch = True
        guard.start_epoch(epoch)

    def end_epoch(self, logs: Mapping[str, Any]) -> None:
        """An epoch is over, its validation included.

        Args:
            logs: What Keras logged for it.
        """
        guard = self._guard
        if not self._in_epoch:  # the same guard is in callbacks twice
            return
        self._in_epoch = False
        if self._modes is not None:
            guard.containment.run("modes", self._modes.end_epoch)
        self.settle()
        if self._facts.steps_per_epoch is None and guard.step > self._epoch_start:
            self._facts.steps_per_epoch = guard.step - self._epoch_start
        if not self._has_seen_frozen:
            self._has_seen_frozen = True
            found = guard.containment.run("frozen layers", untrained_frozen, self._model)
            self._facts.setup.untrained_frozen = found or ()
        metrics = {}
        for name, value in logs.items():
            try:
                metrics[str(name)] = float(value)
            except (TypeError, ValueError):  # not a number
                continue
        if "loss" in metrics:
            if self.tap is None or self.tap.blind is not None or guard.containment.retired(PART):
                metrics["train_loss"] = metrics["loss"]
            elif not math.isfinite(metrics["loss"]):
                del metrics["loss"]  # one bad step spoils this running mean; the steps themselves are known
        guard.end_epoch(metrics, validated=any(name.startswith("val_") for name in metrics))

    def start_validation(self) -> None:
        """A validation begins: what a bad batch spoiled must be put right before."""
        self.settle()
        if self._modes is not None:
            self._modes.is_validating = True

    def end_validation(self) -> None:
        """A validation is over."""
        if self._modes is not None:
            self._modes.is_validating = False
        self._guard.containment.run("looking at validation", self._look_at_validation)

    def _look_at_validation(self) -> None:
        """Look for the rows of the validation among those of training. The first validation shows them."""
        reader = self._reader
        if reader is None or reader.checks is None:
            return
        batches = None if self._has_seen_validation else validation_batches(self._model)
        self._has_seen_validation = True
        for finding in reader.read_validation(batches):
            self._guard.report_data(finding)

    def settle(self) -> None:
        """The model is not in a step: take in what is left, and put statistics back after a bad batch."""
        guard = self._guard
        if self._timer is not None:
            self._timer.spoil()
        if self.tap is not None:
            rows = guard.containment.run(PART, self.tap.take, wait=True) or []
            self._take_in(rows)
            if rows and self.tap.blind is None:
                self._look_inside(rows, self.tap)
        if guard.should_stop:
            self._put_back_statistics()

    def say_if_nothing_ran(self) -> None:
        """An empty dataset ends a fit without a word from Keras but a warning."""
        if self._guard.step == 0:
            self._guard.note("No training batch was run: the dataset is empty, or epochs leaves nothing to do.")

    # What the guard may ask, see failguard.core.host.Host

    def apply(self, decision: Decision) -> None:
        """End training after this batch."""
        self._model.stop_training = True
        if self._may_run_model:
            self._put_back_statistics()

    def _put_back_statistics(self) -> None:
        if self._moving is None:
            return
        names = self._moving.put_back()
        if names:
            shown = ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
            self._guard.note(
                f"The bad batch spoiled moving statistics ({shown}). They were put back as they were at the start of "
                f"epoch {self._moving.epoch}."
            )

    def weights_bytes(self) -> int:
        """Size of a copy of the weights."""
        return self._best.size_bytes

    def save_weights(self) -> None:
        """Copy the weights to host memory."""
        self._best.save()

    def restore_weights(self) -> None:
        """Put the copy back."""
        self._best.restore()

    def non_finite_weights(self) -> list[str]:
        """Names of weights that are not finite."""
        return non_finite_variables(self._model)

    def learning_rate(self) -> float | None:
        """The rate of the next update. JAX keeps the count of updates that schedules need away from the optimizer."""
        return learning_rate(self._model.optimizer) if self._has_weights_in_epoch else None

    def write_capsule(self, folder: Path, failed_step: int | None) -> CapsuleInfo | None:
        """See :meth:`failguard.core.host.WritesCapsule.write_capsule`."""
        capture = self._capture
        return None if capture is None else capture.write(folder, self._guard.history.step_series("loss"), failed_step)

    def locate(self, finding: Finding) -> Where | None:
        """Look again at the failing batch, where it was kept. Two findings of one step have one place."""
        if self._place is not None and self._place[0] == finding.step and self._place[1] is not None:
            return self._place[1]
        place = locate(finding, self._model, self._failing, self._failing_part, runs_again=self._may_run_model)
        self._place = (finding.step, place)
        return place


def gate_for(settings: Settings) -> Gate:
    """Which values are kept from the weights: those that the run stops on."""
    listed = None if isinstance(settings.detectors, str) else {d.code for d in settings.detectors}

    def stops(code: str) -> bool:
        is_watched = (listed is None or code in listed) and code not in settings.ignore
        return is_watched and settings.resolved_policy.stops_on(code)

    return Gate(loss=stops("loss.non_finite"), gradient=stops("gradient.non_finite"))
