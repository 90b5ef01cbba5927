"""The tap: sees the loss and the gradient norm of every batch from inside the training step of a model.

What Keras hands to callbacks is a running mean over the epoch, which flattens a spike and stays NaN after one NaN. The
tap puts wrappers around ``compute_loss``, ``train_step`` and the optimizer on the instances, for the time of one fit.
Here is what the backends share; ``tap_tensorflow``, ``tap_jax`` and ``tap_torch`` say how each is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras

from failguard.core.containment import Containment

__all__ = ["AROUND", "Gate", "Row", "Tap", "make_tap", "tap_on"]

AROUND = (
    "Losses and gradients per step are not seen: train_step does not call compute_loss by itself (or calls it from a "
    "function compiled on its own). Epoch logs are watched, and bad updates are not kept from the weights. Compute "
    "the loss with self.compute_loss(...) and apply gradients with self.optimizer in train_step to get both."
)


@dataclass(frozen=True, slots=True)
class Gate:
    """What keeps an update from the weights.

    Attributes:
        loss, gradient: A value there that is not finite does.
    """

    loss: bool = False
    gradient: bool = False

    def __bool__(self) -> bool:
        return self.loss or self.gradient


class Row(NamedTuple):
    """What was seen in one batch.

    Attributes:
        loss: The loss of the batch.
        norm: Global L2 norm over all gradients, unclipped and unscaled; ``None`` where nothing was applied.
        dropped: The update was kept from the weights.
        part: ``"input"``, ``"target"`` or ``"output"`` where the step itself looked for the first value that is not
            finite; ``None`` where it did not, or it is none of these.
        batch: The batch of a bad row, as ``train_step`` got it; ``None`` where it was not kept.
        gradient_norms: L2 norm of each gradient, unclipped and unscaled, in the order of :attr:`Tap.applied`: an array
            or tensor of shape (n,); ``None`` where they are not known.
    """

    loss: float
    norm: float | None
    dropped: bool = False
    part: str | None = None
    batch: Any = None
    gradient_norms: Any = None

    @property
    def is_bad(self) -> bool:
        """Whether a value is not finite."""
        return not math.isfinite(self.loss) or (self.norm is not None and not math.isfinite(self.norm))


class Tap:
    """Wrappers on one model for one fit. By itself it sees no values, only calls and errors.

    Attributes:
        blind: Why no losses are seen, ``None`` while they are.
        drops: Updates with bad values are kept from the weights.
        every_steps: Batches after which there is something to take.
        is_due: There is enough to take, or a bad value.
        steps_per_call: Batches in a call of the train function.
        applied: Variables that got a gradient in the newest step, in the order of :attr:`Row.gradient_norms`.
        is_calling: The train function runs, and is perhaps traced.
        without_gradient: Variables that an optimizer was given without one, known of every step.
        peeks: Keep the batch of the next call after which something is due, where batches are not kept anyway.
        may_peek: That is possible.
    """

    def __init__(self, model: Any, gate: Gate, containment: Containment, *, blind: str | None = None) -> None:
        """Args:
        model: A compiled model.
        gate: What keeps an update from the weights.
        containment: Takes errors of the tap's own.
        blind: Why no values are to be seen.
        """
        self.model = model
        self.optimizer = model.optimizer
        self.blind = blind
        self._gate = gate
        self._containment = containment
        self._patched: list[tuple[Any, str, Any, Any]] = []
        self.is_calling = False
        self.applied: tuple[Any, ...] = ()
        self.without_gradient: tuple[Any, ...] = ()
        self.every_steps = 1
        self.peeks = self.may_peek = False
        self.is_due = False
        self.steps_per_call = int(model.steps_per_execution)
        # With a loss scaler a bad gradient is normal, and the scaler skips the step by itself.
        self.is_scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        self.drops = False

    # For the time of a fit

    def install(
        self,
        after: Callable[[], None],
        on_error: Callable[[BaseException], None],
        left_behind: Callable[[], None],
    ) -> None:
        """Put the wrappers on and have the train function built anew.

        Args:
            after: Called after a call of the train function when :attr:`is_due`.
            on_error: Called when the train function raises, before the error goes on.
            left_behind: Called when a later fit finds the wrappers of this one, because an error outside of a step
                ended it and Keras tells no callback.
        """
        model = self.model
        self._history = history = getattr(model, "history", None)
        self._left_behind = left_behind
        self._untapped = model.train_function
        try:
            self._patch_all()
            model.train_function = None
            self._build()
        except BaseException:
            model.train_function = self._untapped
            self.uninstall()
            raise
        function, call = model.train_function, self.call

        # At every step, so it does no more than it must.
        def train_function(*args: Any) -> Any:
            if getattr(model, "history", None) is not history:
                self.leave_behind()
                return model.train_function(*args)
            try:
                result = call(function, args)
                if self.is_due:
                    after()
                return result
            except BaseException as error:
                on_error(error)
                raise

        train_function.failguard_tap = self  # type: ignore[attr-defined]
        model.train_function = self._wrapper = train_function

    def is_current(self) -> bool:
        """Whether the model is still in the fit that the wrappers were put on for."""
        return getattr(self.model, "history", None) is self._history

    def leave_behind(self) -> None:
        """The fit that the wrappers were put on for ended without a word."""
        self._left_behind()
        self.uninstall()

    def uninstall(self) -> None:
        """Take every wrapper off again. Further calls do nothing."""
        for target, name, wrapper, before in reversed(self._patched):
            if target.__dict__.get(name) is wrapper:
                if before is None:
                    del target.__dict__[name]
                else:
                    target.__dict__[name] = before
        self._patched.clear()
        if self.model.train_function is getattr(self, "_wrapper", None):
            self.model.train_function = self._untapped

    # At each call of the train function

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run the train function. Its errors pass through. Sets :attr:`is_due`.

        Returns:
            What it returns without the tap. The logs stay valid where a bad step was cut short.
        """
        self.is_due = True
        return function(*args)

    def take(self, *, wait: bool = False) -> list[Row]:
        """The batches since the last time, oldest first.

        Args:
            wait: Also those that the device is not done with.
        """
        return []

    def batch(self) -> Any:
        """The newest batch, as ``train_step`` got it; ``None`` where it is not kept."""
        return None

    @property
    def batches_ahead(self) -> int:
        """How many batches :meth:`batch` is ahead of the newest row that was taken."""
        return 0

    # What a backend fills in

    def _patch_all(self) -> None:
        """Put the wrappers on."""

    def _build(self) -> None:
        self.model.make_train_function()

    # For the backends

    def _patch(self, target: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Put a wrapper on an instance, beside Keras' tracking of attributes.

        Args:
            target: The model, optimizer or metric.
            name: The method.
            make: Makes the wrapper from the method.
        """
        before = target.__dict__.get(name)
        wrapper = make(getattr(target, name))
        target.__dict__[name] = wrapper
        self._patched.append((target, name, wrapper, before))

    def _note_variables(self, grads: Sequence[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Note which variables an optimizer got a gradient for.

        Args:
            grads: What ``apply`` was called with.
            args, kwargs: The rest of it: the variables, or nothing.
        """
        variables = args[0] if args else kwargs.get("trainable_variables")
        variables = list(self.model.trainable_variables if variables is None else variables)
        if len(variables) != len(grads):
            variables = [None] * len(grads)
        pairs = list(zip(variables, grads, strict=True))
        self.applied = tuple(v for v, g in pairs if g is not None)
        self.without_gradient = tuple(v for v, g in pairs if g is None and v is not None)

    def _contained(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a part of the tap while a step is built or run. After an error of its own the tap is blind."""
        result = self._containment.run("tap", function, *args)
        if self.blind is None and self._containment.retired("tap"):
            self.blind = "Losses and gradients per step are not seen any more: the tap failed."
        return result


def tap_on(model: Any) -> Tap | None:
    """The tap that is on a model, of this fit or left behind by one that raised."""
    tap = getattr(model.train_function, "failguard_tap", None)
    if tap is None:  # compile() threw the train function away, but not the wrapper on the model
        tap = getattr(model.__dict__.get("train_step"), "failguard_tap", None)
    return tap


def make_tap(model: Any, gate: Gate, containment: Containment) -> Tap:
    """The tap for a model on the backend that is in use."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from failguard.keras.tap_tensorflow import TensorFlowTap, why_blind

        reason = why_blind(model)
        return (
            TensorFlowTap(model, gate, containment) if reason is None else Tap(model, gate, containment, blind=reason)
        )
    if backend == "jax":
        from failguard.keras.tap_jax import JaxTap

        return JaxTap(model, gate, containment)
    if backend == "torch":
        from failguard.keras.tap_torch import TorchTap

        return TorchTap(model, gate, containment)
    return Tap(model, gate, containment, blind=f"Losses per step are not seen with the Keras backend {backend!r}.")
