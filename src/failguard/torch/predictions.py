"""What a batch of predictions looks like beside its targets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from failguard.core.internals import PredictionReading

__all__ = ["read_predictions", "reduce_predictions"]

MOST_SAMPLES = 4096


def read_predictions(prediction: Tensor, target: Tensor, name: str | None) -> PredictionReading | None:
    """What a batch of predictions looks like beside its targets; ``None`` where the two cannot be compared."""
    reduced = reduce_predictions(prediction, target, name)
    return None if reduced is None else reduced[1](reduced[0])


@torch.no_grad()
def reduce_predictions(
    prediction: Tensor, target: Tensor, name: str | None
) -> tuple[list[Tensor], Callable[[list[Tensor]], PredictionReading | None]] | None:
    """What is needed of predictions, on their device, and what makes a reading of it on the host."""
    prediction, target = prediction.detach(), target.detach()
    if prediction.dim() == 0 or prediction.is_complex() or prediction.numel() == 0:
        return None
    if name in ("cross_entropy", "nll_loss") and prediction.dim() >= 2 and not target.is_floating_point():
        return [prediction[:MOST_SAMPLES].argmax(dim=1).flatten(), target[:MOST_SAMPLES].flatten()], _read_classes
    if name is not None and name.startswith("binary"):
        threshold = 0.0 if name.endswith("logits") else 0.5
        if prediction.numel() != prediction.shape[0] or target.numel() != target.shape[0]:
            return None
        compared = ((prediction, threshold), (target, 0.5))
        return [(t[:MOST_SAMPLES].flatten() > above).long() for t, above in compared], _read_classes
    if target.is_floating_point() and prediction.shape == target.shape:
        n = min(len(prediction), MOST_SAMPLES)
        rows = [t[:n].reshape(n, -1).float() for t in (prediction, target)]
        spreads = [t.std(dim=0, correction=0).max() for t in rows]

        def read(copies: list[Tensor]) -> PredictionReading:
            return PredictionReading(n, spread=float(copies[0]), target_spread=float(copies[1]))

        return spreads, read
    return None


def _read_classes(copies: list[Tensor]) -> PredictionReading | None:
    classes, wanted = copies
    wanted = wanted[wanted >= 0]
    if not len(classes) or not len(wanted):
        return None
    counts = (torch.bincount(c) for c in (classes, wanted))
    predicted, targets = (n[n > 0].tolist() for n in counts)
    return PredictionReading.of_counts(predicted, targets)
