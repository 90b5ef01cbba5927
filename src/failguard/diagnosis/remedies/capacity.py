"""What to do about a model that memorises its data, or is held back from learning it."""

from __future__ import annotations

from failguard.diagnosis.case import Case
from failguard.diagnosis.config_lint import MOST_DECAY, MOST_DROPOUT
from failguard.diagnosis.wording import count, number

__all__ = [
    "regularize",
    "relax_regularization",
    "shrink_model",
]

WORKING_DROPOUT = 0.3  # rates of 0.2 to 0.5 are usual
FROZEN = 0.9  # of the parameters are trained, or fewer: a body is frozen
GOOD_START = 0.6  # of the trivial predictor's loss


def shrink_model(case: Case) -> str:
    """For a model that can memorise its data."""
    samples, parameters = case.facts.train_samples, case.facts.model.trainable_parameters
    if _is_fine_tuned(case):
        return "Train fewer of the layers, at a lower rate or for fewer epochs, or get more or augmented data."
    if samples and parameters and parameters > samples:
        return (
            f"Use a smaller model (half the width: about {count(parameters / 4)} instead of {count(parameters)} "
            f"parameters for {count(samples)} samples), or more or augmented data."
        )
    return "Use a smaller model (half the width), or more or augmented data."


def regularize(case: Case) -> str:
    """For a model that nothing holds back: what it has already is made stronger, what is missing is added."""
    facts, model = case.facts, case.facts.model
    dropout, decay = model.dropout or 0.0, facts.optimizer.weight_decay or 0.0
    stop = [] if facts.patience is not None or _stops_early(case) else ["early stopping (patience=5)"]
    if not model.name and model.parameters is None and not facts.optimizer.name:
        wanted = ["dropout of 0.3", "weight decay of 0.01", "batch normalization", *stop]
        return f"Add what the model has not yet: {', '.join(wanted)}, or more or augmented data."
    missing = []
    if dropout == 0.0:
        missing.append("dropout of 0.3 before the last layers")
    if decay == 0.0 and not model.weight_penalty:
        adaptive = "ada" in facts.optimizer.name.lower()
        missing.append("weight decay of 0.01 (AdamW)" if adaptive else "weight decay of 0.0001")
    if model.normalization is False:
        missing.append("batch normalization")
    missing += stop
    stronger = f"raise dropout from {number(dropout)} to 0.3" if 0.0 < dropout < WORKING_DROPOUT else ""
    if not missing and not stronger and 0.0 < decay < MOST_DECAY:
        stronger = f"raise weight decay from {number(decay)} to {number(min(decay * 10, MOST_DECAY))}"
    steps = [*([f"add {', '.join(missing)}"] if missing else []), *([stronger] if stronger else [])]
    if not steps:
        smaller = "train fewer of the layers" if _is_fine_tuned(case) else "use a smaller model"
        return f"Get more or augmented data, or {smaller}: regularization is in place already."
    text = "; ".join(steps)
    return f"{text[:1].upper()}{text[1:]}; more or augmented data helps as well."


def relax_regularization(case: Case) -> str:
    """For dropout or weight decay that lets nothing be learned."""
    dropout, decay = case.facts.model.dropout or 0.0, case.facts.optimizer.weight_decay or 0.0
    if dropout >= MOST_DROPOUT:
        return f"Lower dropout from {number(dropout)} to 0.3."
    if case.facts.model.weight_penalty:
        name, _, factor = case.facts.model.weight_penalty.partition(" ")
        return f"Lower the {name} penalty from {factor} to {min(1e-4, float(factor) / 100):.2g}."
    return f"Lower weight decay from {number(decay)} to 0.01."


def _is_fine_tuned(case: Case) -> bool:
    """Whether the weights were good before: parts are frozen, or the first losses below what guessing costs."""
    model, trivial, losses = case.facts.model, case.facts.trivial_loss, case.history.steps.get("loss")
    trained, every = model.trainable_parameters, model.parameters
    if trained is not None and every and trained < FROZEN * every and not case.facts.setup.untrained_frozen:
        return True
    first = losses.first(4).tolist() if losses is not None else []
    return bool(trivial) and len(first) == 4 and all(x < GOOD_START * (trivial or 0.0) for x in first)


def _stops_early(case: Case) -> bool:
    return "metric.no_improvement" in case.codes
