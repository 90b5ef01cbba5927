"""Looks inside a model now and then: what is asked at which moment of a step, and what becomes of the answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from failguard.core.facts import Facts
from failguard.guard import Guard
from failguard.torch.arrivals import Arrivals
from failguard.torch.batches import BatchReader, split, tensors
from failguard.torch.internals import InsideWatch, layers_of
from failguard.torch.loss_graph import LossGraph, read_loss_graph
from failguard.torch.setup import SetupWatch, is_compiled

__all__ = ["LookInside"]

PART = "looking inside"
REGRESSION = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
SAME = 1e-3  # relative; what a loss computed again may differ by


class LookInside:
    """The samples of one run, for a :class:`~failguard.torch.watch.StepWatch`.

    A sample takes three batches: gradients and weights before an update, weights after it and the predictions of the
    next batch, then it goes to the guard.
    """

    def __init__(
        self,
        model: nn.Module,
        guard: Guard,
        facts: Facts,
        reader: BatchReader,
        optimizers: Sequence[Any] = (),
        *,
        arrivals: Arrivals,
        index: Callable[[], int],
    ) -> None:
        """Args:
        model: The model, complete and on its device.
        guard: Is told of every sample.
        facts: Filled in.
        reader: Learns what the targets' spread may be compared with.
        optimizers: Those that are known from the start.
        arrivals: How tensors are read.
        index: Tells the batch in progress. The guard may be some behind, where numbers come late.
        """
        self._guard = guard
        self._arrivals = arrivals
        self._index = index
        self._facts = facts
        self._reader = reader
        self._setup = SetupWatch(model, facts.setup, optimizers, arrivals)
        self._inside = InsideWatch(model, arrivals)
        self._layer_of = {id(p): layer.name for layer in layers_of(model) for p in layer.parameters}
        self._graph: LossGraph | None = None
        self._spread_is_checked = False
        self._is_compiled = is_compiled(model)
        self._cost_s = 0.0

    @property
    def wants_loss(self) -> bool:
        """The next loss is to be shown."""
        return self._graph is None or self._inside.wants_prediction

    @property
    def wants_batch(self) -> bool:
        """The beginning of the next batch is to be told."""
        return self._inside.is_open

    @property
    def wants_update(self) -> bool:
        """The next update is to be told."""
        if self._guard.containment.retired(PART):
            return False
        return not self._setup.is_done or (not self._inside.is_open and self._guard.internals_due)

    def next_update_at(self) -> float:
        """Step from which an update is to be told."""
        if self._guard.containment.retired(PART):
            return math.inf
        if not self._setup.is_done or self._inside.is_open:
            return self._guard.step + 1
        return self._guard.accounting.internals.next_step

    def start_epoch(self) -> None:
        """The first batch of an epoch is about to come."""
        self._guard.containment.run(PART, self._setup.see_modes)

    def see_loss(self, loss: Any, batch: Any) -> None:
        """A loss, before backward or after.

        Args:
            loss: Of the batch.
            batch: Of any structure; ``None`` where it is not known.
        """
        self._timed(self._see_loss, loss, batch)

    def before_update(self, optimizers: Sequence[Any], sentinel: Tensor | None, scale: float | Tensor) -> None:
        """Gradients are ready.

        Args:
            optimizers: The torch optimizers of this update.
            sentinel: One of their parameters that has a gradient.
            scale: What the gradients are multiplied by.
        """
        self._timed(self._before_update, optimizers, sentinel, scale)

    def begin_batch(self) -> None:
        """A batch begins: the update before it is made, or was skipped."""
        self._timed(self._begin_batch)

    def take_in(self) -> None:
        """Take in what has arrived from a device."""
        if self._arrivals.is_waiting:
            self._timed(self._arrivals.take_in)

    def look_away(self) -> None:
        """A forward pass of our own is about to come: it is no evaluation."""
        self._setup.drop_mode_handle()

    def close(self) -> None:
        """Take every hook off."""
        self._guard.containment.run(PART, self._inside.close)
        self._guard.containment.run(PART, self._setup.finish)

    # How it is done

    def _timed(self, function: Any, *args: Any) -> None:
        started = perf_counter()
        self._guard.containment.run(PART, function, *args)
        if self._guard.containment.retired(PART):
            self._inside.close()
            self._setup.finish()
        spent = perf_counter() - started
        self._cost_s += spent
        self._guard.accounting.add(PART, spent)

    def _see_loss(self, loss: Any, batch: Any) -> None:
        graph = read_loss_graph(loss, self._layer_of)
        if self._graph is None:
            self._graph = graph
            facts = self._facts
            facts.output = graph.output
            facts.loss_name = facts.loss_name or graph.name
            facts.model.idle_layers = () if self._is_compiled else graph.idle_layers
            facts.setup.loss_reaches_parameters = None if self._is_compiled else graph.reaches_parameters
            self._reader.ignore(graph.output.ignored_class)
            self._inside.activations = {} if self._is_compiled else graph.activations
            # Its tensors would keep a batch of outputs for the whole run.
            self._graph = replace(graph, prediction=None, target=None)
        if not self._inside.wants_prediction:
            return
        target = next(tensors(split(batch)[1]), None) if batch is not None else None
        kept = self._inside.take_output()  # what the model returned, where the graph is gone
        prediction = graph.prediction if graph.prediction is not None else kept
        shown = graph.target if graph.target is not None else target
        # What the model returned is what the loss got only where nothing but a layer is in between.
        if graph.prediction is not None or (kept is not None and self._facts.output.activation == "linear"):
            self._widen_range(prediction)
        if shown is not None and self._facts.output.target_shape is None:
            self._facts.output.target_shape = tuple(shown.shape)
        name = self._graph.name
        self._inside.see_prediction(prediction, shown, name)
        if not self._spread_is_checked and name in REGRESSION and prediction is not None and target is not None:
            self._spread_is_checked = True
            if self._graph.is_plain:
                self._compare_loss(name, prediction, target, loss)

    def _compare_loss(self, name: str, prediction: Tensor, target: Tensor, loss: Any) -> None:
        """Find out whether a loss is this one of predictions and targets, and so computed from targets as they are."""
        if prediction.numel() != target.numel() or not isinstance(loss, Tensor) or not target.is_floating_point():
            return
        with torch.no_grad():
            again = getattr(nn.functional, name)(prediction.detach().reshape(target.shape), target.detach())

        def take_in(copies: list[Tensor]) -> None:
            if math.isclose(float(copies[0]), float(copies[1]), rel_tol=SAME):
                self._reader.trivial_from, self._reader.loss_factor = ("target_spread",), 1.0
                self._facts.loss_name = name
                self._reader.weigh_trivial_loss()

        self._arrivals.read([again, loss.detach()], take_in)

    def _widen_range(self, prediction: Any) -> None:
        def take_in(copies: list[Tensor]) -> None:
            output, (low, high) = self._facts.output, (float(t) for t in copies)
            if math.isfinite(low) and math.isfinite(high):
                output.minimum = low if output.minimum is None else min(output.minimum, low)
                output.maximum = high if output.maximum is None else max(output.maximum, high)

        values = prediction.detach()
        self._arrivals.read([values.min(), values.max()], take_in)

    def _before_update(self, optimizers: Sequence[Any], sentinel: Tensor | None, scale: float | Tensor) -> None:
        guard = self._guard
        if not self._setup.is_done:
            self._setup.see_update(optimizers, sentinel)
        if not self._inside.is_open and guard.internals_due:
            self._cost_s = 0.0
            index = self._index()
            self._inside.begin(index, guard.optimizer_steps + index - guard.step, optimizers, scale)
            if not self._is_compiled:
                self._inside.watch_output()

    def _begin_batch(self) -> None:
        started = perf_counter()
        reading = self._inside.end()
        if reading is None:
            return
        # After an overflow that a loss scaler has skipped there is nothing to be learned.
        if all(math.isfinite(y.gradient_norm or 0.0) for y in reading.layers) or not self._arrivals.is_late:
            hooks_s = self._inside.take_hooks_s()
            self._guard.accounting.add_past(PART, hooks_s)
            self._guard.record_internals(reading, self._cost_s + hooks_s + perf_counter() - started)
