"""Samples of what goes on inside a Keras model: layers around one call, units of activations, predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import keras
import numpy as np

from failguard.core.facts import Facts
from failguard.core.internals import Internals, LayerReading
from failguard.guard import Guard
from failguard.keras.inspect import learning_rate
from failguard.keras.probe import Probe, Seen
from failguard.keras.tap import Row, Tap

__all__ = ["InsideFit"]

MOST_LAYERS = 200  # of a larger model the first ones
MOST_ELEMENTS = 4096  # of a weight matrix, evenly strided


class InsideFit:
    """Takes one sample at a time, between calls of the train function.

    Gradient norms are those of the newest step. Weights are read, and read again after the next call; what a call with
    several steps changes is divided by their number. JAX keeps the weights away from the model while an epoch runs, so
    there only gradient norms are known.
    """

    def __init__(self, model: Any, guard: Guard, facts: Facts) -> None:
        """Args:
        model: A compiled model in ``fit``.
        guard: Is told of every sample.
        facts: Filled in.
        """
        self._guard = guard
        self._facts = facts
        self._has_weights = keras.backend.backend() != "jax"
        # Where XLA runs on an accelerator, a forward pass without it would be slow and wait for the device.
        is_near = not model.jit_compile or (facts.device or "cpu").startswith("cpu")
        self._probe = Probe(model) if self._has_weights and is_near else None
        self._reading: Internals | None = None
        self._met_short_batch = False
        self._before: dict[str, Any] = {}
        self._layers: dict[str, list[Any]] = {}
        self._started_at = 0  # updates
        self._cost_s = self._look_began_s = 0.0

    @property
    def wants_next_call(self) -> bool:
        """A sample waits for the very next call of the train function: its second part, or a batch of full size."""
        return self._reading is not None or self._met_short_batch

    def look(self, rows: Sequence[Row], tap: Tap) -> None:
        """Rows were taken in.

        Args:
            rows: The newest last.
            tap: Where they came from.
        """
        started = self._look_began_s = perf_counter()
        if self._reading is not None:
            self._end()
        elif self._guard.internals_due and rows:
            self._cost_s = 0.0
            batch = tap.batch() if self._probe is not None else None
            # The last batch of an epoch may hold a few samples only. It is looked at where all are like that.
            self._met_short_batch = not self._met_short_batch and self._is_short(batch)
            if not self._met_short_batch:
                self._begin(rows[-1], batch, tap)
        self._cost_s += perf_counter() - started

    def watch_units(self, tap: Tap) -> None:
        """One of the first batches: look at the units of activations, so that short runs are judged too."""
        batch = tap.batch() if self._probe is not None else None
        if self._probe is None or batch is None:
            return
        seen = self._probe.look(batch, self._guard.step - 1, self._facts.loss_name, self._facts.output.loss_takes)
        if seen is not None and seen.activations:
            guard = self._guard
            guard.record_internals(Internals(guard.step - 1, guard.optimizer_steps, activations=seen.activations))
            guard.accounting.internals.restart(guard.step)

    def _is_short(self, batch: Any) -> bool:
        whole = self._facts.batch_size
        if batch is None or whole is None:
            return False
        first: Any = next(iter(keras.tree.flatten(batch)), None)
        return bool(getattr(first, "shape", None)) and int(first.shape[0]) < whole

    def _begin(self, row: Row, batch: Any, tap: Tap) -> None:
        guard = self._guard
        self._layers = _by_layer(tap.applied)
        norms = None if row.gradient_norms is None else np.asarray(keras.ops.convert_to_numpy(row.gradient_norms))
        of_variable = {}
        if norms is not None and len(norms) == len(tap.applied):
            of_variable = {id(v): float(n) for v, n in zip(tap.applied, norms, strict=True)}
        self._note_missing(tap)
        if self._has_weights:
            self._before = {name: [_sample(v) for v in _weights(own)] for name, own in self._layers.items()}
        layers = []
        for name, own in self._layers.items():
            found = [of_variable[id(v)] for v in own if id(v) in of_variable]
            before = self._before.get(name)
            stand_still = all(of_variable.get(id(v), math.nan) == 0.0 for v in _weights(own))
            layers.append(
                LayerReading(
                    name,
                    parameters=sum(math.prod(v.shape) for v in own),
                    gradient_norm=math.hypot(*found) if found else None,
                    zero_gradient_units=1.0 if stand_still else None,
                    weight_norm=None if before is None else math.hypot(*(float(np.linalg.norm(w)) for w in before)),
                )
            )
        reading = Internals(
            guard.step - 1, guard.optimizer_steps, tuple(layers), learning_rate=learning_rate(tap.optimizer)
        )
        if self._probe is not None and batch is not None:
            seen = self._probe.look(batch, self._guard.step - 1, self._facts.loss_name, self._facts.output.loss_takes)
            if seen is not None:
                self._describe_output(seen)
                reading = replace(reading, activations=seen.activations, predictions=seen.predictions)
        if not self._has_weights:
            guard.record_internals(reading, perf_counter() - self._look_began_s)
            return
        self._started_at = guard.optimizer_steps
        self._reading = reading

    def _end(self) -> None:
        updates = (self._guard.optimizer_steps - self._started_at) / self._facts.accumulate_batches
        if 0 < updates < 1:  # the weights have moved in one of so many batches
            return
        reading, self._reading = self._reading, None
        if reading is None:
            return
        layers = list(reading.layers)
        if updates > 0:
            for i, layer in enumerate(layers):
                pairs = zip(_weights(self._layers[layer.name]), self._before[layer.name], strict=True)
                change = [float(np.linalg.norm(_sample(v) - before)) for v, before in pairs]
                layers[i] = replace(layer, update_norm=math.hypot(*change) / updates)
        self._before = {}
        cost_s = self._cost_s + perf_counter() - self._look_began_s
        self._guard.record_internals(replace(reading, layers=tuple(layers)), cost_s)

    def _note_missing(self, tap: Tap) -> None:
        """Variables that never get a gradient: exact, from the step as it was built."""
        setup, without = self._facts.setup, list(tap.without_gradient)
        every = [*tap.applied, *without]
        total = sum(math.prod(v.shape) for v in every)
        setup.gradient_checks = self._guard.optimizer_steps
        setup.without_gradient = tuple(str(getattr(v, "path", v.name)) for v in without[:50])
        setup.without_gradient_share = sum(math.prod(v.shape) for v in without) / total if total else 0.0

    def _describe_output(self, seen: Seen) -> None:
        """Widen the ranges of what the model puts out."""
        output, low, high = self._facts.output, seen.minimum, seen.maximum
        if not (math.isfinite(low) and math.isfinite(high)):
            return
        output.minimum = low if output.minimum is None else min(output.minimum, low)
        output.maximum = high if output.maximum is None else max(output.maximum, high)
        if seen.row_sums is not None:
            least, most = seen.row_sums
            output.least_row_sum = least if output.least_row_sum is None else min(output.least_row_sum, least)
            output.greatest_row_sum = most if output.greatest_row_sum is None else max(output.greatest_row_sum, most)
        if seen.over_samples:
            output.activation, output.activation_over_samples = "softmax", True


def _by_layer(variables: Sequence[Any]) -> dict[str, list[Any]]:
    """Variables by the path of their layer, in order; at most 200 layers."""
    layers: dict[str, list[Any]] = {}
    for variable in variables:
        path = str(getattr(variable, "path", variable.name))
        name = path.rpartition("/")[0] or path
        if name in layers or len(layers) < MOST_LAYERS:
            layers.setdefault(name, []).append(variable)
    return layers


def _weights(variables: Sequence[Any]) -> list[Any]:
    """Matrices, or all where there is none."""
    return [v for v in variables if len(v.shape) > 1] or list(variables)


def _sample(variable: Any) -> Any:
    """At most 4,096 elements of a variable, evenly strided, float32."""
    flat = keras.ops.reshape(variable, (-1,))
    stride = 1 + math.prod(variable.shape) // MOST_ELEMENTS
    return np.array(keras.ops.convert_to_numpy(flat[::stride]), dtype=np.float32)
