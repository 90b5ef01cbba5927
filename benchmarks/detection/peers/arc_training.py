"""arc-training's controller. It is AGPL: it runs in a process and an environment of its own, through its public API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.detection.peers.watch import NON_FINITE, PeerWatch, UnwatchedLoop, Words

__all__ = ["WORDS", "watch"]

WORDS: Words = {
    "nan_loss": NON_FINITE,
    "nan_gradients": ("gradient.non_finite", *NON_FINITE),
    "nan_weights": ("weights.non_finite", *NON_FINITE),
    "loss_explosion": ("loss.spike", "loss.divergence"),
    "gradient_explosion": ("gradient.exploding", "gradient.accumulating"),
    "lyapunov_divergence": ("loss.divergence", "update.too_large", "gradient.exploding"),
    "drift_detected": ("loss.divergence", "gradient.exploding", "gradient.accumulating"),
    "weight_sparsity_explosion": ("activation.dead",),
    "weight_magnitude_collapse": ("gradient.vanishing", "loss.no_learning", "metric.degenerate_predictions"),
}
"""By ``StepAction.failure_type``, without the numbers that some carry."""


class ArcWatch(PeerWatch):
    """Reads every ``StepAction``. A failure is an error: the controller undoes work for it."""

    def take(self, action: Any) -> bool:
        """Note what the controller did in a step; whether the update is to be done."""
        if action.failure_type:
            self.say(action.failure_type.split(" ")[0], "error")
        self.actions += bool(action.should_skip or action.rolled_back or action.lr_reduced)
        self.steps += 1
        return not action.should_skip

    @contextmanager
    def loop(self, model: Any, optimizer: Any) -> Iterator[Any]:
        """See :class:`~benchmarks.detection.program.Watch`."""
        if isinstance(optimizer, list):
            self.unusable = "a controller has one optimizer"
            yield UnwatchedLoop()
            return
        import arc

        guarded = UnwatchedLoop()
        controller = arc.Controller(model, optimizer)
        guarded.step = lambda loss, batch=None: self.take(controller.step(loss))  # type: ignore[method-assign]
        try:
            yield guarded
        finally:
            controller.close()


def watch(framework: str) -> ArcWatch:
    """A watch for one run."""
    watching = ArcWatch(WORDS)
    if framework == "lightning":
        import lightning as L
        from arc.api.integrations import LightningCallback

        guard = LightningCallback()

        class Listener(L.Callback):
            """The callback keeps its actions to itself, so its controller is listened to from the start of the fit."""

            def on_train_start(self, trainer: Any, pl_module: Any) -> None:
                if guard.controller is None:
                    return
                step = guard.controller.step

                def heard(loss: Any = None) -> Any:
                    action = step(loss)
                    watching.take(action)
                    return action

                guard.controller.step = heard

        watching.callbacks = [guard, Listener()]
    return watching
