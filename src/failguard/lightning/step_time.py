"""Steps of a Lightning fit timed in parts: a few now and then, through the calls that every profiler of it gets."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from failguard.guard import Guard
from failguard.resources.windows import STEPS, Windows

__all__ = ["StepTimer"]

# What the trainer calls its profiler with, by the end of the name. See Trainer(profiler=...).
_PARTS = (
    (".train_dataloader_next", "data_wait"),
    (".training_step", "forward"),
    (".backward", "backward"),
    (".optimizer_step", "optimizer"),
)


ACTION_S = 1e-6  # of two calls of ours around an action of the trainer


class StepTimer:
    """For the steps of a window, ``start`` and ``stop`` of the trainer's profiler are wrapped on the instance.

    Outside of windows nothing is in place. A window in which a validation or a checkpoint fell is thrown away.

    Attributes:
        next_step: Step at whose start :meth:`at_step` is to be called.
    """

    def __init__(self, trainer: Any, guard: Guard, own_key: str) -> None:
        """Args:
        trainer: The trainer in ``fit``.
        guard: Is told of the times.
        own_key: State key of failguard's own callback, which is no callback of the user's.
        """
        self._trainer = trainer
        self._guard = guard
        self._own = f"[Callback]{own_key}."
        watched = guard.resources.limits is not None
        self._windows = Windows(guard.step, wanted=watched)
        self._profiler: Any = None
        self._left = 0
        self.next_step = self._windows.next_step

    def at_step(self) -> None:
        """A batch is about to be trained on: open a window, or close one that is full."""
        if self._profiler is None:
            self._open()
            return
        self._left -= 1
        if self._left > 0:
            return
        total_s = perf_counter() - self._opened_at
        spoiled = self._spoiled
        self.close()
        guard = self._guard
        if not spoiled:
            self._tell(total_s)
        cost_s = ACTION_S * self._actions
        guard.accounting.add_past("timing steps", cost_s)
        self._windows.closed(guard.step, cost_s, total_s)
        self.next_step = self._windows.next_step

    def spoil(self) -> None:
        """Something else than steps falls into the window."""
        self._spoiled = True

    def close(self) -> None:
        """Take the wrappers off. Further calls do nothing."""
        profiler, self._profiler = self._profiler, None
        if profiler is not None:
            for name in ("start", "stop"):
                profiler.__dict__.pop(name, None)
        self.next_step = self._windows.next_step

    def _open(self) -> None:
        profiler = self._trainer.profiler
        if profiler is None or {"start", "stop"} & vars(profiler).keys():  # somebody else's are in place
            self._windows.stop()
            self.next_step = self._windows.next_step
            return
        self._times: dict[str, float] = {}
        self._callbacks_s = self._in_batch_s = 0.0
        self._actions = 0
        self._left = STEPS
        self._spoiled = False
        self.next_step = -1  # at every step until the window is closed
        open_at: dict[str, float] = {}
        original_start, original_stop = profiler.start, profiler.stop
        times, own = self._times, self._own

        def start(action_name: str) -> None:
            open_at[action_name] = perf_counter()
            original_start(action_name)

        def stop(action_name: str) -> None:
            original_stop(action_name)
            since = open_at.pop(action_name, None)
            if since is None:
                return
            self._actions += 1
            took = perf_counter() - since
            if action_name.startswith("[Callback]"):
                if not action_name.startswith(own):
                    self._callbacks_s += took
                return
            for ending, part in _PARTS:
                if action_name.endswith(ending):
                    times[part] = times.get(part, 0.0) + took
                    return

        profiler.start, profiler.stop = start, stop
        self._profiler = profiler
        self._opened_at = perf_counter()

    def _tell(self, total_s: float) -> None:
        times = self._times
        parts = {"callbacks": self._callbacks_s, "data_wait": times.get("data_wait", 0.0)}
        if {"forward", "backward", "optimizer"} <= times.keys():
            forward, backward = times["forward"], times["backward"]
            optimizer = times["optimizer"] - forward - backward  # it runs the others as its closure
            if optimizer >= 0:
                parts |= {"forward": forward, "backward": backward, "optimizer": optimizer}
        guard = self._guard
        guard.resources.time_steps(parts, total_s, STEPS, guard.step - 1)
