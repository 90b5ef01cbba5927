"""Recorded batches of a Keras fit, trained on once more."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import keras
import numpy as np

from failguard.core.capsule import CapsuleInfo
from failguard.core.facts import Facts
from failguard.errors import InputError
from failguard.trials.results import Replay
from failguard.verify.changes import Change

__all__ = ["KerasCapsule"]

EVALUATED = 8  # batches whose mean loss is compared before and after
ABSURD = 1e3  # times the median of the largest magnitudes of all recorded rows


class KerasCapsule:
    """A capsule of Keras, opened.

    Attributes:
        moments: Step and number of batches of the moment to take up from.
    """

    def __init__(self, folder: Path, info: CapsuleInfo, facts: Facts) -> None:
        """Args:
        folder: Of the capsule. Its files are unpickled, which runs code that is stored in them.
        info: Its description.
        facts: Of the run.
        """
        self._folder = folder
        try:
            self._moments = pickle.loads((folder / "steps.pkl").read_bytes())["moments"]
            self._objects = pickle.loads((folder / "objects.pkl").read_bytes())
        except Exception as error:
            raise InputError(
                f"the capsule cannot be unpickled ({type(error).__name__}: {str(error)[:200]}). Run it where the "
                "modules of the training can be imported"
            ) from error
        self.moments = [(int(m["step"]), len(m["batches"])) for m in self._moments]

    def replay(self, which: int, change: Change | None, steps: int, until: float) -> Replay:
        """Train from a moment on.

        Args:
            which: Index of the moment.
            change: What to do otherwise; ``None``: nothing.
            steps: Updates, at most.
            until: Time at which to stop, by ``time.monotonic``.

        Raises:
            InputError: It cannot be done, and not because of the change.
        """
        kept = self._moments[which]["batches"]
        model = self._open()
        batches = [keras.utils.unpack_x_y_sample_weight(one["batch"]) for one in kept]
        if change is not None:
            batches = _changed_batches(batches, change)
            _change_model(model, change)
        result = Replay(recorded_losses=[one["loss"] for one in kept])
        started = monotonic()
        try:
            keras.utils.set_random_seed(0)
            result.before = _mean_loss(model, batches)
            _train(model, batches, steps, until, result)
            if result.ended in ("", "time"):
                result.after = _mean_loss(model, batches)
        except Exception as error:  # noqa: BLE001 - of the user's own code, or of a change that does not fit it
            result.ended, result.error = "error", f"{type(error).__name__}: {str(error)[:300]}"
        result.seconds = monotonic() - started
        return result

    def _open(self) -> Any:
        try:
            return keras.saving.load_model(
                self._folder / "model.keras", custom_objects=self._objects, compile=True, safe_mode=False
            )
        except Exception as error:
            reason = str(error).strip().splitlines()[-1][:200]  # Keras puts the innermost error last
            raise InputError(
                f"Keras cannot load the model ({reason}). Layers of its own need a get_config() and an __init__ that "
                "takes **kwargs"
            ) from error


Batch = tuple[Any, Any, Any]


def _train(model: Any, batches: Sequence[Batch], steps: int, until: float, result: Replay) -> None:
    """Make updates, batch after batch, and again from the first one."""
    for i in range(steps):
        if monotonic() > until:
            result.ended = "time"
            return
        x, y, weight = batches[i % len(batches)]
        model.reset_metrics()  # else the loss is a mean over all batches
        value = float(model.train_on_batch(x, y, sample_weight=weight, return_dict=True)["loss"])
        result.losses.append(value)
        if not math.isfinite(value):
            result.ended = "loss"
            return
        result.updates += 1


def _mean_loss(model: Any, batches: Sequence[Batch]) -> float:
    """Over some of the batches, as in training. Statistics such as BatchNorm's are put back."""
    statistics = [(v, np.array(v)) for v in model.non_trainable_variables]
    chosen = list(batches)[:: max(len(batches) // EVALUATED, 1)]
    total = 0.0
    for x, y, weight in chosen:
        prediction = model(x, training=True)
        loss = model.compute_loss(x=x, y=y, y_pred=prediction, sample_weight=weight, training=True)
        total += float(keras.ops.convert_to_numpy(loss))
    for variable, value in statistics:
        variable.assign(value)
    return total / len(chosen)


def _changed_batches(batches: list[Batch], change: Change) -> list[Batch]:
    if change.clears_gradients:
        raise InputError("Keras clears gradients by itself")
    if change.drops_rows:
        batches = _without_bad_rows(batches)
    if change.scales_inputs:
        scale = _scale_of([x for x, _, _ in batches], "inputs")
        batches = [(scale(x), y, weight) for x, y, weight in batches]
    if change.scales_targets:
        scale = _scale_of([y for _, y, _ in batches], "targets")
        batches = [(x, scale(y), weight) for x, y, weight in batches]
    return batches


def _scale_of(values: list[Any], part: str) -> Any:
    """A function to mean 0 and standard deviation 1, for each feature of tabular data, else over all."""
    if not all(isinstance(v, np.ndarray) and v.dtype.kind == "f" for v in values):
        raise InputError(f"the {part} are no floating-point array that can be scaled")
    together = np.concatenate(values).astype(np.float64)
    axis = 0 if together.ndim == 2 else None
    mean, deviation = together.mean(axis=axis), together.std(axis=axis)
    if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
        raise InputError(f"the {part} hold values that are not finite")
    deviation = np.where(deviation > 0, deviation, 1.0)
    return lambda array: ((array - mean) / deviation).astype(array.dtype)


def _without_bad_rows(batches: list[Batch]) -> list[Batch]:
    """The batches without samples that hold values which are not finite or absurd."""
    magnitudes = [_magnitudes(batch) for batch in batches]
    known = np.concatenate([m[np.isfinite(m)] for m in magnitudes])
    typical = float(np.median(known)) if known.size else 0.0
    limit = ABSURD * typical if typical > 0 else math.inf
    kept = []
    for batch, largest in zip(batches, magnitudes, strict=True):
        rows = np.isfinite(largest) & (largest <= limit)
        if rows.any():
            kept.append(keras.tree.map_structure(lambda leaf, rows=rows: None if leaf is None else leaf[rows], batch))
    if not kept:
        raise InputError("no recorded batch has a row without bad values")
    return kept


def _magnitudes(batch: Batch) -> Any:
    """The largest magnitude in each sample; NaN where a value is not finite. Shape (samples,)."""
    leaves = [leaf for leaf in keras.tree.flatten(batch) if isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f"]
    rows = [np.abs(leaf.reshape(len(leaf), -1)).max(axis=1) for leaf in leaves if leaf.size and leaf.ndim]
    if not rows:
        raise InputError("the batches hold no floating-point values")
    largest = np.stack(rows)
    return np.where(np.isfinite(largest).all(axis=0), largest.max(axis=0), np.nan)


def _change_model(model: Any, change: Change) -> None:
    if change.unfreezes:
        model.trainable = True
    if change.dropout is not None:
        for layer in model._flatten_layers():
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = change.dropout
    if change.initializes:
        keras.utils.set_random_seed(0)
        for layer in model._flatten_layers():
            if getattr(layer, "kernel", None) is not None and not callable(layer.kernel):
                layer.kernel.assign(keras.initializers.GlorotUniform()(layer.kernel.shape))
            if getattr(layer, "bias", None) is not None and not callable(layer.bias):
                layer.bias.assign(keras.ops.zeros_like(layer.bias))
    if change.rate_factor != 1.0 or change.clip_norm is not None or change.weight_decay is not None or change.unfreezes:
        _change_optimizer(model, change)


def _change_optimizer(model: Any, change: Change) -> None:
    """A new optimizer of the same kind with other settings, and the state of the old one."""
    old = model.optimizer
    if isinstance(old, keras.optimizers.LossScaleOptimizer):
        raise InputError("the optimizer scales the loss, and its settings cannot be changed here")
    settings = old.get_config()
    schedule = getattr(old, "_learning_rate", None)
    is_schedule = isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule)
    settings["learning_rate"] = (
        _Scaled(schedule, change.rate_factor) if is_schedule else float(old.learning_rate) * change.rate_factor
    )
    if change.clip_norm is not None:
        settings |= {"clipnorm": change.clip_norm, "clipvalue": None, "global_clipnorm": None}
    if change.weight_decay is not None:
        settings["weight_decay"] = change.weight_decay
    new = type(old).from_config(settings)
    if old.built and not change.unfreezes:
        new.build(model.trainable_variables)
        for mine, its in zip(new.variables, old.variables, strict=True):
            if mine is not new.learning_rate and "learning_rate" not in mine.path:
                mine.assign(its)
    model.optimizer = new


class _Scaled(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule, multiplied."""

    def __init__(self, schedule: Any, factor: float) -> None:
        self._schedule, self._factor = schedule, factor

    def __call__(self, step: Any) -> Any:
        """The rate at a step."""
        return self._schedule(step) * self._factor

    def get_config(self) -> dict[str, Any]:
        """Its settings."""
        return {"schedule": self._schedule, "factor": self._factor}
