"""A second look at a batch: what activations and predictions are, from a forward pass in inference mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from failguard.core.internals import ActivationReading, PredictionReading
from failguard.keras.batches import arrays
from failguard.keras.output import last_layer, leaves

__all__ = ["Probe", "Seen"]

MOST_SAMPLES = 64
WINDOW_BATCHES = 8  # in a row, at the start of a run
LATER_BATCHES = 4  # some dozen steps apart
FLAT = {"sigmoid": 6.0, "tanh": 3.0}  # beyond, the slope is below 1 % of its maximum
SUM_ERROR = 1e-3  # of what adds up to 1
PINNED_SHARE = 0.95  # of the samples, for a unit that counts as saturated


@dataclass(slots=True)
class Seen:
    """What one look gave.

    Attributes:
        minimum, maximum: Of the outputs.
        row_sums: The least and the greatest sum of a sample's outputs, where the loss takes one distribution for each.
        over_samples: The outputs of each unit add up to 1 over the samples instead.
        predictions: Beside the targets, where the two can be compared.
        activations: Of the last batches, once there were enough of them.
    """

    minimum: float
    maximum: float
    predictions: PredictionReading | None
    activations: tuple[ActivationReading, ...]
    row_sums: tuple[float, float] | None = None
    over_samples: bool = False


@dataclass(slots=True)
class _Units:
    kind: str
    state: Any = None  # highest input, or how often at a flat end; shape (units,)
    samples: int = 0
    batches: int = 0
    inputs: list[Any] = field(default_factory=list)  # of the pass that runs
    since_step: int = -1

    def take_in(self) -> None:
        """Reduce what came in during one pass."""
        for x in self.inputs:
            values = np.asarray(keras.ops.convert_to_numpy(x)).reshape(-1, x.shape[-1])
            if self.kind == "relu":
                now = values.max(axis=0)
                self.state = now if self.state is None else np.maximum(self.state, now)
            else:
                now = (np.abs(values) > FLAT[self.kind]).sum(axis=0)
                self.state = now if self.state is None else self.state + now
            self.samples += len(values)
        self.batches += bool(self.inputs)
        self.inputs = []

    def reading(self, name: str) -> ActivationReading:
        """What was seen."""
        dead = int((self.state <= 0).sum()) if self.kind == "relu" else 0
        pinned = 0 if self.kind == "relu" else int((self.state >= PINNED_SHARE * self.samples).sum())
        return ActivationReading(
            name, self.kind, len(self.state), dead, pinned, self.batches, self.samples, self.since_step
        )


class Probe:
    """Runs a model on a few samples in inference mode, which draws no random numbers and changes no statistics.

    Only models that Keras built from layers are run: what a model of the user's own does in ``call`` is not known.
    Under XLA only some batches are kept: those that are read.
    """

    def __init__(self, model: Any) -> None:
        """Args:
        model: A compiled model.
        """
        self._model = model
        self._window = WINDOW_BATCHES
        self._units: dict[str, _Units] = {}

    def look(self, batch: Any, step: int, loss_name: str | None, takes: str | None) -> Seen | None:
        """Look at a batch.

        Args:
            batch: As ``train_step`` gets it.
            step: Its number.
            loss_name: Name of the loss.
            takes: What the loss takes.

        Returns:
            ``None`` where the model or the batch is none that can be looked at.
        """
        model = self._model
        if not model.built or type(model) not in (keras.Sequential, keras.Model, _functional()):
            return None
        x, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        inputs = keras.tree.map_structure(lambda leaf: leaf[:MOST_SAMPLES], x)
        patched = self._patch(step)
        try:
            output = model(inputs, training=False)
        finally:
            for layer, name, before in patched:
                layer.__dict__[name] = before
        for units in self._units.values():
            units.take_in()
        outputs, targets = arrays(output), arrays(y)
        if len(outputs) != 1 or not outputs[0].size:
            return None
        predictions = None
        if len(targets) == 1:
            predictions = read_predictions(outputs[0], targets[0][:MOST_SAMPLES], loss_name, takes)
        seen = Seen(float(outputs[0].min()), float(outputs[0].max()), predictions, self._readings())
        if takes == "probabilities" and "categorical_crossentropy" in (loss_name or "") and outputs[0].ndim == 2:
            rows, columns = (outputs[0].sum(axis=axis, dtype=np.float64) for axis in (1, 0))
            seen.row_sums = float(rows.min()), float(rows.max())
            is_one = np.abs(columns - 1.0).max() < SUM_ERROR and len(columns) > 1
            seen.over_samples = bool(is_one and np.abs(rows - 1.0).max() > SUM_ERROR)
        return seen

    def _readings(self) -> tuple[ActivationReading, ...]:
        seen = {name: units for name, units in self._units.items() if units.state is not None}
        if not seen or min(units.batches for units in seen.values()) < self._window:
            return ()
        self._window = LATER_BATCHES
        readings = tuple(units.reading(name) for name, units in seen.items())
        self._units = {}
        return readings

    def _patch(self, step: int) -> list[tuple[Any, str, Any]]:
        """Have activations of hidden layers note what comes in, for one pass."""
        last = last_layer(self._model)
        patched = []
        for layer in leaves(self._model):
            activation = layer.__dict__.get("activation")
            kind = getattr(activation, "__name__", None)
            if layer is last or kind not in ("relu", *FLAT):
                continue
            units = self._units.setdefault(layer.name, _Units(str(kind), since_step=step))
            patched.append((layer, "activation", activation))
            layer.__dict__["activation"] = _noting(activation, units)
        return patched


def read_predictions(output: Any, target: Any, loss_name: str | None, takes: str | None) -> PredictionReading | None:
    """What a batch of predictions looks like beside its targets; ``None`` where the two cannot be compared."""
    name = loss_name or ""
    if "categorical_crossentropy" in name and output.ndim == 2:
        classes = output.argmax(axis=1)
        wanted = target.argmax(axis=1) if target.ndim == 2 and target.shape[1] > 1 else target.reshape(-1).astype(int)
    elif name == "binary_crossentropy" and output.size == len(output) == target.size:
        classes = (output.reshape(-1) > (0.0 if takes == "logits" else 0.5)).astype(int)
        wanted = (target.reshape(-1) > 0.5).astype(int)
    elif takes == "values" and output.size == target.size and output.size:
        rows, goals = output.reshape(len(output), -1), target.reshape(len(output), -1)
        spreads = float(rows.std(axis=0).max()), float(goals.std(axis=0).max())
        return PredictionReading(len(rows), spread=spreads[0], target_spread=spreads[1])
    else:
        return None
    wanted = wanted[wanted >= 0]
    if not len(classes) or not len(wanted):
        return None
    predicted, targets = (np.unique(c, return_counts=True)[1].tolist() for c in (classes, wanted))
    return PredictionReading.of_counts(predicted, targets)


def _noting(activation: Callable[..., Any], units: _Units) -> Callable[..., Any]:
    def noting(x: Any, *args: Any, **kwargs: Any) -> Any:
        units.inputs.append(x)
        return activation(x, *args, **kwargs)

    return noting


def _functional() -> type:
    """The class of models made by ``keras.Model(inputs, outputs)``, for which Keras has no public name."""
    made = keras.Model(one := keras.Input((1,)), one)
    return type(made)
