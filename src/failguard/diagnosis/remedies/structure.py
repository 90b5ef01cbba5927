"""What to do about the model and its loss: layers, activations, floats and what learns."""

from __future__ import annotations

import re

from failguard.diagnosis.case import Case
from failguard.diagnosis.clues_learning import falls_without_bound
from failguard.diagnosis.remedies.program import own_line
from failguard.diagnosis.remedies.updates import lower_learning_rate

__all__ = [
    "connect_loss",
    "fit_loss",
    "fit_output",
    "guard_operation",
    "hand_over",
    "initialize",
    "normalize",
    "other_activation",
    "revive_units",
    "set_mode",
    "unfreeze",
    "wider_floats",
    "add_activations",
    "larger_batch",
]

_SPEAKS_OF_NAN = re.compile(r"\b(?:nan|inf|infinity)\b", re.IGNORECASE)


def guard_operation(case: Case) -> str:
    """For an operation that left the range of floats."""
    name = (case.facts.loss_name or "").lower()
    if case.exception is not None and _SPEAKS_OF_NAN.search(case.exception.message):
        line = own_line(case)
        return f"Find where the NaN or Inf comes from: look at the data and the model's outputs just before{line}."
    place = (
        f" in {case.where.module[:120]}" if case.where.module else " in the loss" if case.where.tensor == "loss" else ""
    )
    of_probabilities = name in ("nll_loss", "nllloss", "binary_cross_entropy", "bceloss", "binary_crossentropy")
    if case.where.tensor == "loss" and of_probabilities:
        return "Compute the loss from logits, not from probabilities: the log of a probability of 0 is not finite."
    return f"Keep the operation{place} in range: add a small constant (1e-7) before log, division and square root."


def wider_floats(case: Case) -> str:
    """For values beyond 65,504."""
    ways = {
        "lightning": 'precision="bf16-mixed"',
        "keras": 'keras.config.set_dtype_policy("mixed_bfloat16")',
        "torch": "torch.autocast(..., dtype=torch.bfloat16)",
    }
    way = ways.get(case.facts.framework)
    if case.facts.model.dtype == "float16":
        return f"Keep the weights in float32 and compute in bfloat16{f': {way}' if way else ''}."
    return f"Use bfloat16 instead of float16, which has the range of float32{f': {way}' if way else ''}."


def fit_output(case: Case) -> str:
    """For a last activation that does not fit."""
    output = case.facts.output
    if output.activation_over_samples:
        return f"Normalize over the classes: {output.activation}(dim=-1)."
    if output.activation_units == 1 and output.activation in ("softmax", "log_softmax"):
        return "Use a sigmoid for one unit, or one unit for each class; for a regression no activation at all."
    if output.loss_takes == "logits":
        return f"Remove the {output.activation} at the end: the loss takes logits and applies it by itself."
    if output.activation is not None:
        return f"Remove the {output.activation} at the end, or scale the targets into its range."
    return "Choose a last activation whose range holds the targets."


def fit_loss(case: Case) -> str:
    """For a loss that takes something else."""
    if falls_without_bound(case) is not None:
        return "Check the sign of the loss: what is minimized must have a lower bound. Keep a learned variance above 0."
    output = case.facts.output
    if output.is_negated:
        return "Remove the minus sign in front of the loss."
    if case.facts.setup.maximizes:
        return "Remove maximize=True from the optimizer."
    if case.facts.target.names_classes and output.loss_takes == "values":
        return "Give the model an output for each class and use a cross-entropy."
    if output.loss_takes == "probabilities" and output.activation in (None, "linear"):
        keras = case.facts.framework == "keras"
        return "Set from_logits=True in the loss." if keras else "Use the loss that takes logits."
    if output.is_squashed_twice:
        return f"Remove one of the two activations: the last {output.activation}, or the one before it."
    if output.loss_takes == "log_probabilities":
        return "Use cross_entropy on the logits, or apply log_softmax before nll_loss."
    if output.loss_takes == "logits" and output.activation not in (None, "linear"):
        return f"Use a loss that takes probabilities, or remove the {output.activation} before it."
    return "Use the loss that fits the targets: categorical for one class of many, binary for each of several."


def set_mode(case: Case) -> str:
    """For a model in the wrong mode."""
    if case.facts.setup.trains_in_eval_mode:
        return "Call model.train() at the beginning of every epoch, after validation."
    return "Call model.eval() before validation and model.train() after it."


def revive_units(case: Case) -> str:
    """For units that died."""
    lower = lower_learning_rate(case)[:-1] if case.rate_is_high else "Start again from fresh weights"
    return f"{lower}; use a leaky ReLU or GELU, and initialize biases at 0 or a little above."


def initialize(case: Case) -> str:
    """For initial weights that do not work."""
    return "Use the framework's default initialization (He for ReLU, Glorot for tanh and sigmoid), and biases of 0."


def other_activation(case: Case) -> str:
    """For units at their flat ends."""
    return "Use ReLU or GELU in hidden layers, or normalize before the activation."


def add_activations(case: Case) -> str:
    """For layers that are one linear map together."""
    return "Put an activation, such as a ReLU, after every hidden layer."


def larger_batch(case: Case) -> str:
    """For statistics of too few samples."""
    return "Use batches of 8 samples or more, or layer or group normalization, which need no other samples."


def normalize(case: Case) -> str:
    """For a deep stack without normalization."""
    return "Add batch or layer normalization, or residual connections, between the layers."


def connect_loss(case: Case) -> str:
    """For a loss that no gradient comes from."""
    return (
        "Compute the loss from the model's output without leaving the graph: no .detach(), .item(), .numpy(), argmax "
        "or no_grad between them."
    )


def unfreeze(case: Case) -> str:
    """For parameters that must learn but may not."""
    if case.facts.framework == "keras":
        return "Set trainable=True on the layers that should learn, then compile again."
    return "Set requires_grad_(True) on the parameters that should learn, and hand them to the optimizer."


def hand_over(case: Case) -> str:
    """For weights that nothing updates."""
    if case.facts.setup.hidden:
        return (
            "Keep layers in torch.nn.ModuleList or ModuleDict and single tensors in torch.nn.Parameter, so that "
            "model.parameters() has them."
        )
    return (
        "Check that the optimizer was given this model's parameters, that its step is made, and that no schedule keeps "
        "the learning rate at 0."
    )
