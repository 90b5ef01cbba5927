"""What to do about updates: their size, their number, what goes into them."""

from __future__ import annotations

import math

from failguard.diagnosis.case import Case
from failguard.diagnosis.clues_learning import clipped_away
from failguard.diagnosis.config_lint import clipping_limit
from failguard.diagnosis.rates import lower_rate, raised_rate
from failguard.diagnosis.wording import count, number

__all__ = [
    "clear_gradients",
    "clip_gradients",
    "lower_learning_rate",
    "raise_learning_rate",
    "train_longer",
    "clear_later",
]


def lower_learning_rate(case: Case) -> str:
    """For a rate that is too high."""
    if case.facts.output.loss_is_summed and not case.rate_is_high:
        return "Average the loss over the batch instead of adding it up, or divide the learning rate by the batch size."
    rate, lower = case.facts.optimizer.learning_rate, lower_rate(case.facts.optimizer)
    if rate is None or lower is None:
        return "Lower the learning rate to a tenth."
    schedule = case.facts.optimizer.schedule
    peak = f", the highest that {schedule[:60]} reaches included" if schedule else ""
    updates = next((f.evidence for f in case.findings if f.code == "update.too_large"), {})
    ratio, healthy = updates.get("update_ratio"), updates.get("healthy_ratio")
    why = (
        f": the update-to-weight ratio was {number(ratio)}, healthy is {number(healthy)}"
        if ratio is not None and healthy is not None
        else ""
    )
    return f"Lower the learning rate from {number(rate)} to {number(lower)}{peak}{why}."


def raise_learning_rate(case: Case) -> str:
    """For updates that are too small."""
    if clipped_away(case) is not None:
        limit, level = clipping_limit(case.facts) or 0.0, case.gradient_level or 0.5
        return f"Raise the clipping limit from {number(limit)} to {2.0 * level:.1g}, or clip no more."
    if case.rate_gone is not None:
        return (
            f"Let the schedule last for all {case.rate_gone[2]} epochs: if it counts epochs, step it once per epoch, "
            "not after every batch."
        )
    rate, raised = case.facts.optimizer.learning_rate, raised_rate(case.facts.optimizer)
    if rate is None or raised is None:
        return "Raise the learning rate tenfold."
    return f"Raise the learning rate from {number(rate)} to {number(raised)}."


def clip_gradients(case: Case) -> str:
    """For occasional large gradients."""
    level = case.gradient_approach.level if case.gradient_approach else 0.0
    # Twice the usual norm leaves ordinary steps alone and cuts the bursts.
    limit = 1.0 if not math.isfinite(level) or level <= 0.5 else float(f"{2 * level:.1g}")
    ways = {
        "lightning": f"Trainer(gradient_clip_val={limit:g})",
        "keras": f"clipnorm={limit:g} in the optimizer",
        "torch": f"torch.nn.utils.clip_grad_norm_(model.parameters(), {limit:g}) before optimizer.step()",
    }
    way = ways.get(case.facts.framework)
    return f"Clip the gradient norm at {limit:g}{f': {way}' if way else ''}."


def clear_gradients(case: Case) -> str:
    """For gradients that carry over."""
    return "Call optimizer.zero_grad() once for every update, before backward()."


def clear_later(case: Case) -> str:
    """For gradients that are gone before the update."""
    return "Call optimizer.zero_grad() before loss.backward() or after optimizer.step(), not between the two."


def train_longer(case: Case) -> str:
    """For a run that was too short."""
    epochs, batch = case.facts.max_epochs, case.facts.batch_size
    if epochs and epochs > 0:
        return f"Train longer: raise the number of epochs from {count(epochs)} to {count(epochs * 10)}."
    if batch and batch > 1:
        return f"Make more updates: lower the batch size from {count(batch)} to {count(max(batch // 4, 1))}."
    return "Train for more steps."
