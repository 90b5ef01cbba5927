"""FailGuard for Keras: which event of a fit leads to what."""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from types import TracebackType
from typing import Any, ClassVar

import keras

from failguard.adapter import GuardCallback, hook
from failguard.core.log import logger
from failguard.errors import FailGuardError
from failguard.keras.checkpoints import callbacks_of_fit
from failguard.keras.fit_watch import FitWatch
from failguard.keras.tap import tap_on

__all__ = ["FailGuard"]


UNSEEN = (
    "The fit ended by an error that Keras shows to no callback. Write `with guard: model.fit(..., callbacks=[guard])` "
    "to have it recorded."
)


class FailGuard(GuardCallback, keras.callbacks.Callback):
    """Watches a fit, on every Keras 3 backend.

    Example::

        guard = FailGuard(monitor="val_loss", patience=10)
        model.fit(x, y, validation_data=(xv, yv), callbacks=[guard])

    Losses and gradient norms are those of each batch, taken inside the training step; ``evaluate`` and ``predict`` are
    left alone. Keras calls no callback when ``fit`` raises: an error or an interrupt inside a training step is seen all
    the same, one elsewhere (in another callback, say) with ``with guard: model.fit(...)``.

    What the operations inside a compiled step cost is not part of ``report.overhead``, as Python cannot time them.

    The keywords are those of :class:`~failguard.adapter.GuardCallback`.

    Raises:
        ConfigurationError: A keyword cannot be used.
    """

    framework: ClassVar[str] = "keras"

    # Set on the instance for the time of a fit or a with-block only, so that a guard copies and pickles outside.
    _watch: FitWatch | None = None
    _is_in_block: bool = False
    _failure: Exception | None = None
    _validation_began_at: float | None = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """The fit begins."""
        model = self.model
        if not self._is_the_one(model):
            return
        watch = FitWatch(model, self.params)
        guard = self._begin(watch)
        if guard is None:
            return
        self._watch = watch
        callbacks = guard.containment.run("checkpoints", callbacks_of_fit) or ()
        guard.containment.run("start", watch.start, guard, self._on_error, self._left_behind, callbacks)

    @hook
    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """An epoch begins."""
        if self._watch is not None:
            self._watch.start_epoch(epoch)

    @hook
    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """A validation begins."""
        if self._watch is not None:
            self._watch.start_validation()
            self._validation_began_at = perf_counter()

    @hook
    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """A validation is over: it is no part of a step."""
        if self._watch is not None:
            self._watch.end_validation()
        if self._guard is not None and self._validation_began_at is not None:
            self._guard.spent("validation", perf_counter() - self._validation_began_at)
            self._validation_began_at = None

    @hook
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """An epoch is over, its validation included."""
        if self._watch is not None:
            self._watch.end_epoch(logs or {})

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """The fit ended by itself, or was stopped.

        Raises:
            TrainingFailure: The run failed and ``raise_on_failure`` is set.
        """
        guard, watch = self._guard, self._watch
        if guard is None:
            return
        if watch is not None:
            guard.containment.run("settle", watch.settle)
            guard.containment.run("settle", watch.say_if_nothing_ran)
        self._finish()
        failure = guard.failure()
        if failure is not None:
            if not self._is_in_block:
                raise failure
            self._failure = failure

    # Errors

    def __enter__(self) -> FailGuard:
        self._is_in_block = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record what the fit raised, wherever it was. It goes on.

        Raises:
            TrainingFailure: The run failed, nothing was raised, and ``raise_on_failure`` is set.
        """
        if error is not None:
            self._on_error(error)
        elif self._guard is not None:  # somebody caught the error inside the block
            self._left_behind()
        failure = self._failure
        for name in ("_is_in_block", "_failure"):
            self.__dict__.pop(name, None)
        if failure is not None and error is None:
            raise failure

    def _on_error(self, error: BaseException) -> None:
        """The fit raised."""
        guard, watch = self._guard, self._watch
        if guard is None:
            return
        if watch is not None:
            guard.containment.run("settle", watch.settle)
        guard.containment.run("recording the exception", guard.fail, error)
        self._finish()

    def _left_behind(self) -> None:
        """An earlier fit ended without a word."""
        self._on_error(FailGuardError(UNSEEN))

    def _finish(self) -> None:
        self._end()
        watch = self.__dict__.pop("_watch", None)
        if watch is not None:
            watch.close()

    # How it is done

    def _is_the_one(self, model: Any) -> bool:
        """Whether this guard watches: the first in a fit does. Tidies up after a fit that raised."""
        tap = tap_on(model)
        if tap is not None and tap.is_current():
            logger.warning(
                "failguard: this fit has more than one FailGuard, and only the first one watches. Keep one in "
                "callbacks=[...]; what to do about which finding goes into its policy={code: action}."
            )
            return False
        if tap is not None:
            tap.leave_behind()
        if self._guard is not None:
            self._left_behind()
        return True

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        state["_model"] = None  # Keras sets it at the next fit
        return state
