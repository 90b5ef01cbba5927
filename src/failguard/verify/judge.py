"""Whether a replay shows the symptom of the run, and whether a remedy removed it."""

from __future__ import annotations

import math
from enum import Enum

from failguard.diagnosis.wording import count, number
from failguard.trials.results import Replay
from failguard.verify.changes import Change

__all__ = ["Symptom", "has_symptom", "is_judged", "removed", "sentence", "symptom_of", "went"]

LEAST_UPDATES = 8  # fewer say nothing
# By how much the mean loss over the recorded batches changed, as a share of what it was. The batches are the same
# before and after, so there is little noise; the limits are set by judgement.
ROSE = 0.1
STAYED = 0.02
FELL = 0.05  # learning
FELL_CLEARLY = 0.1  # where nothing was learned before


class Symptom(str, Enum):
    """What a few dozen updates can show."""

    EXPLODES = "explodes"  # values that are not finite, or a loss that rises
    STUCK = "stuck"  # a loss that does not fall


_SYMPTOMS = {
    Symptom.EXPLODES: (
        "data.non_finite",
        "loss.non_finite",
        "gradient.non_finite",
        "weights.non_finite",
        "loss.divergence",
        "loss.spike",
        "loss.oscillation",
        "gradient.exploding",
        "update.too_large",
    ),
    Symptom.STUCK: (
        "loss.no_learning",
        "loss.plateau",
        "gradient.vanishing",
        "gradient.missing",
        "update.too_small",
        "weights.frozen",
        "activation.dead",
        "activation.saturated",
        "metric.degenerate_predictions",
        "data.scale",
    ),
}
# Carried-over gradients let the loss rise or keep it from falling.
_EITHER = ("gradient.accumulating",)


def symptom_of(code: str) -> tuple[Symptom, ...]:
    """The symptoms that a replay of a run with this root may show; none where a few dozen updates show nothing."""
    if code in _EITHER:
        return (Symptom.EXPLODES, Symptom.STUCK)
    return tuple(symptom for symptom, codes in _SYMPTOMS.items() if code in codes)


def is_judged(replay: Replay) -> bool:
    """Whether the replay went far enough to say anything."""
    if replay.ended in ("error", ""):
        return replay.ended == ""
    return replay.ended != "time" or replay.updates >= LEAST_UPDATES


def has_symptom(replay: Replay, symptom: Symptom) -> bool:
    """Whether a replay without any change shows the symptom."""
    if _is_broken(replay):
        return symptom is Symptom.EXPLODES
    rose = _rise(replay)
    return rose > ROSE if symptom is Symptom.EXPLODES else rose > -FELL


def removed(replay: Replay, symptom: Symptom) -> bool:
    """Whether the symptom is gone: all values are finite, and the loss does not rise, or falls where it was stuck."""
    if _is_broken(replay):
        return False
    return _rise(replay) <= (STAYED if symptom is Symptom.EXPLODES else -FELL_CLEARLY)


def sentence(change: Change, tried: Replay, original: Replay) -> str:
    """What a trial gave, beside the same steps without the change."""
    return f"{change.what} {went(tried)}; as it was, {went(original)}"


def went(replay: Replay) -> str:
    """How the loss went, with its numbers."""
    updates = f"{count(replay.updates)} update{'' if replay.updates == 1 else 's'}"
    if replay.ended in ("loss", "gradient", "weights"):
        return f"the {replay.ended} was not finite after {updates}"
    if not math.isfinite(replay.after):
        return f"the loss was not finite after {updates}"
    if not math.isfinite(replay.before):
        return f"the loss was {number(replay.after)} after {updates}"
    if number(replay.before) == number(replay.after):
        return f"the loss stayed at {number(replay.after)} for {updates}"
    word = "fell" if replay.after < replay.before else "rose"
    return f"the loss {word} from {number(replay.before)} to {number(replay.after)} in {updates}"


def _is_broken(replay: Replay) -> bool:
    return replay.ended in ("loss", "gradient", "weights") or not math.isfinite(replay.after)


def _rise(replay: Replay) -> float:
    """Change of the loss, as a share of what it was."""
    if not math.isfinite(replay.before):
        return -1.0  # finite now, and it was not
    return (replay.after - replay.before) / max(abs(replay.before), 1e-12)
