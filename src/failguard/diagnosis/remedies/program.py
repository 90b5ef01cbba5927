"""What to do about errors of the program's own."""

from __future__ import annotations

import re

from failguard.diagnosis.case import Case

__all__ = [
    "detach_history",
    "find_file",
    "fix_code",
    "match_devices",
    "match_dtypes",
    "match_shapes",
    "own_line",
    "save_plainly",
]

# torch names both shapes when a linear layer does not fit: (batch x given and wanted x out).
_MATMUL = re.compile(r"\((\d+)x(\d+) and (\d+)x(\d+)\)")
_QUOTED = re.compile(r"['\"]([^'\"]{1,200})['\"]")


def save_plainly(case: Case) -> str:
    """For something that cannot be saved or loaded."""
    text = case.exception.message.lower() if case.exception else ""
    if "pickle" in text and ("lambda" in text or "local object" in text):
        return f"Move the function or class to the top level of a module, where it can be pickled{own_line(case)}."
    if "state_dict" in text:
        return f"Build the model with the sizes it had when the checkpoint was written, then load{own_line(case)}."
    if "weights only load failed" in text:
        return "Load with weights_only=False if you trust the file, or save only state_dict() and plain values."
    if any(word in text for word in ("ran out of input", "pytorchstreamreader", "invalid load key", "signature")):
        return f"The file is damaged or cut short: use an earlier checkpoint{own_line(case)}."
    return f"Save state_dict() and plain values instead of whole objects{own_line(case)}."


def find_file(case: Case) -> str:
    """For something that is not there."""
    message = case.exception.message if case.exception else ""
    name = _QUOTED.search(message)
    if case.exception is not None and case.exception.type_name.rsplit(".", 1)[-1] == "KeyError":
        return (
            f"Check that the key or column {name.group(1)!r} exists{own_line(case)}."
            if name
            else f"Check the key{own_line(case)}."
        )
    return (
        f"Check that {name.group(1)!r} exists, seen from the working folder."
        if name
        else f"Check the path{own_line(case)}."
    )


def match_shapes(case: Case) -> str:
    """For shapes that do not fit."""
    match = _MATMUL.search(case.exception.message) if case.exception else None
    if match is not None:
        return (
            f"The layer expects {match[3]} features and gets {match[2]}: set its input width to {match[2]}, or reshape "
            f"the input{own_line(case)}."
        )
    if case.exception is None:
        return "Give output and targets the same shape: output.squeeze(-1), or targets.unsqueeze(-1)."
    return f"Print the shapes just before the failing line and make them fit{own_line(case)}."


def match_dtypes(case: Case) -> str:
    """For types that do not fit."""
    return f"Convert before the failing line{own_line(case)}: inputs to float32, class labels to int64."


def match_devices(case: Case) -> str:
    """For tensors on different devices."""
    return f"Move model, inputs and targets to the same device before the failing line{own_line(case)}."


def detach_history(case: Case) -> str:
    """For a graph that is used twice, or never let go."""
    if case.root_code.startswith("resource."):
        return (
            "Store numbers instead of tensors between steps: loss.item() or loss.detach(); the same for outputs, "
            "hidden states and metrics."
        )
    return (
        "Detach what is carried from batch to batch (state.detach()), or call backward once on the sum of the losses."
    )


def fix_code(case: Case) -> str:
    """For an error of the program's own."""
    if case.exception is not None and case.exception.frame:
        return f"Start at {case.exception.frame[:200]}."
    return "Start at the last line of the traceback that is in your own code."


def own_line(case: Case) -> str:
    """The user's own line, for the end of a sentence."""
    frame = case.exception.frame if case.exception else None
    return f" ({frame[:200]})" if frame else ""
