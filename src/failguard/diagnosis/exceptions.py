"""What kind of error an exception is, from its type and text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from failguard.core.observation import ExceptionFacts

__all__ = ["ExceptionKind", "classify"]

CERTAIN, LIKELY, HINT = 5.0, 3.5, 2.0
MAX_TEXT = 4_000  # of a message that is searched


@dataclass(frozen=True, slots=True)
class ExceptionKind:
    """A cause that an exception points to.

    Attributes:
        cause: Code of the cause.
        weight: Weight of evidence in natural log-odds.
        phrase: The words of the message that say so; ``""`` when the type does.
    """

    cause: str
    weight: float
    phrase: str = ""


# Type, then texts; a rule holds when its type matches and, where it has texts, one of them is in the message.
# The texts are those of torch, Keras, TensorFlow, JAX and NumPy. Lower case; matched regardless of case.
_HOST_MEMORY = (
    r"defaultcpuallocator",
    r"can(?:no|')t allocate memory",
    r"unable to allocate .+ for an array",
    r"killed by signal",
    r"dataloader worker .{0,60}exited unexpectedly",
    r"terminated abruptly while the future",  # a pool of processes that lost one
    r"insufficient shared memory",
    r"unable to (?:open|allocate|mmap) .{0,40}shared memory",
    r"bus error",
)
_RULES: tuple[tuple[str, float, str, tuple[str, ...]], ...] = (
    (
        "disk_full",
        CERTAIN,
        "",
        (r"no space left on device", r"errno 28\b", r"disk quota exceeded", r"\bdisk is full"),
    ),
    ("batch_size_too_large", CERTAIN, "OutOfMemoryError|ResourceExhaustedError", ()),
    (
        "batch_size_too_large",
        CERTAIN,
        "",
        (
            r"(?:cuda|hip|mps|xpu|backend) (?:error: )?out of memory",
            r"oom when allocating",
            r"resource_exhausted",
            r"cuda_error_out_of_memory",
            r"cublas_status_alloc_failed",
        ),
    ),
    # Host memory: a leak or a data set that is too large, but the batch may be the reason as well.
    ("host_memory_leak", LIKELY, "MemoryError|_ArrayMemoryError", ()),
    ("host_memory_leak", LIKELY, "", _HOST_MEMORY),
    ("batch_size_too_large", LIKELY - 0.5, "MemoryError|_ArrayMemoryError", ()),
    ("batch_size_too_large", LIKELY - 0.5, "", _HOST_MEMORY),
    ("missing_file_or_column", CERTAIN, "FileNotFoundError|NotADirectoryError|IsADirectoryError|NoSuchKey", ()),
    (
        "missing_file_or_column",
        LIKELY,
        "",
        (
            r"no such file or directory",
            r"not (?:found )?in (?:index|axis|columns)",
            r"column .{1,80} (?:not found|does not exist)",
            r"no such column",
        ),
    ),
    ("missing_file_or_column", HINT, "KeyError|ColumnNotFoundError|NotFoundError", ()),
    (
        "serialization_failure",
        CERTAIN,
        "PicklingError|UnpicklingError|PickleError|InvalidHeaderDeserialization|SafetensorError",
        (),
    ),
    (
        "serialization_failure",
        CERTAIN,
        "",
        (
            r"(?:can't|cannot|could not) (?:pickle|serialize|deserialize)",
            r"weights only load failed",
            r"error\(s\) in loading state_dict",
            r"pytorchstreamreader failed",
            r"invalid load key",
            r"ran out of input",
            r"unable to synchronously open (?:file|object)",
            r"file signature not found",
            r"unknown layer: ",
            r"is not (?:json )?serializable",
        ),
    ),
    (
        "device_mismatch",
        CERTAIN,
        "",
        (
            r"expected all tensors to be on the same device",
            r"found at least two devices",
            r"is on cpu, .{0,40}expected",
            r"input type \(torch\.cuda\.\w+\) and (?:weight|bias) type \(torch\.\w+tensor\)",
            r"input type \(torch\.\w+tensor\) and (?:weight|bias) type \(torch\.cuda\.\w+\)",
            r"torch\.cuda\.\w+ but got torch\.\w+tensor",
            r"tensor for argument .{0,60} is on ",
        ),
    ),
    (
        "bad_labels",
        CERTAIN,
        "",
        (
            r"target -?\d+ is out of bounds",
            r"t >= 0 && t < n_classes",
            r"label value of -?\d+ which is outside the valid range",
            r"all elements of (?:target|input) should be between 0 and 1",
            r"class values must be (?:smaller|non-negative)",
            r"labels? .{0,60}out of range",
        ),
    ),
    # Most of these are labels beyond the number of classes, or indices beyond an embedding.
    ("bad_labels", LIKELY - 0.5, "", (r"device-side assert",)),
    (
        "dtype_mismatch",
        LIKELY,
        "",
        (
            r"expected (?:scalar type|.{0,60}dtype)",
            r"same dtype",
            r"found dtype",
            r"not implemented for '\w+'",
            r"can(?:'t|not) be cast",
            r"input type .{1,60} and (?:weight|bias) type .{1,60} should be the same",
            r"dtype .{0,80}mismatch",
            r"expected \w+ but (?:found|got) (?:float|double|half|bfloat16|long|int)",
            r"incompatible types",
            r"tensor conversion requested dtype",
            r"could not convert string to float",
        ),
    ),
    (
        "shape_mismatch",
        LIKELY,
        "",
        (
            r"shapes cannot be multiplied",
            r"size mismatch",
            r"the size of tensor a",
            r"is invalid for input of size",
            r"incompatible shapes?",
            r"dimensions must be equal",
            r"incompatible with the layer",
            r"must match the (?:existing )?size",
            r"expected input batch_size",
            r"could not (?:be )?broadcast",
            r"not broadcastable",
            r"sizes of tensors must match",
            r"must be the same as input size",
            r"must have the same (?:shape|first dimension)",
            r"shapes? .{1,80}(?:do(?:es)? not match|mismatch|incompatible|not aligned)",
            r"given groups=",
            r"contracting dimension",
            r"expects each tensor to be equal size",
            r"shapes must be equal",
            r"shape mismatch",
            r"expected \d+d.{0,40}(?:input|tensor)",
            r"normalized_shape",
            r"inhomogeneous shape",
            r"inconsistent numbers of samples",
        ),
    ),
    (
        "detached_graph",
        CERTAIN,
        "",
        (
            r"does not require grad and does not have a grad_fn",
            r"no gradients? (?:were )?provided for any variable",
            r"not to have been used in the graph",
        ),
    ),
    ("retained_graph", LIKELY, "", (r"backward through (?:the )?graph a second time",)),
    (
        "numerical_instability",
        LIKELY,
        "",
        (
            r"returned nan values in its",
            r"math domain error",
            r"(?:contains?|had|has|found|invalid) .{0,40}\b(?:nan|inf(?:inity)?)\b",
            r"\b(?:nan|inf) (?:or|and) (?:nan|inf)",
            r"overflow encountered",
        ),
    ),
    ("numerical_instability", LIKELY, "FloatingPointError|OverflowError", ()),
    ("numerical_instability", HINT, "ZeroDivisionError", ()),
    (
        "hardware_fault",
        LIKELY,
        "",
        (
            r"uncorrectable ecc",
            r"hardware error",
            r"fell off the bus",
            r"device is lost",
            r"input/output error",
            r"nvlink error",
            r"\bxid\b",
            r"cuda error: unspecified launch failure",
        ),
    ),
    ("hardware_fault", HINT, "", (r"an illegal memory access was encountered", r"cudnn_status_execution_failed")),
    (
        "network_or_collective_failure",
        LIKELY,
        "Connection\\w*Error|BrokenPipeError|TimeoutError|Dist(?:Backend|Network|Store)Error|HTTPError|URLError|"
        "UnavailableError|gaierror|MaxRetryError|\\w*ReadTimeout",
        (),
    ),
    (
        "network_or_collective_failure",
        LIKELY,
        "",
        (
            r"\bnccl\b",
            r"\bgloo\b",
            r"processgroup",
            r"collective operation timeout",
            r"connection (?:reset|refused|closed|aborted)",
            r"name or service not known",
            r"max retries exceeded",
            r"rendezvous",
            r"socket timeout",
        ),
    ),
)

# Raised mostly by slips in the program itself, whatever else their text says.
OWN_ERRORS = frozenset(
    {
        *("AssertionError", "AttributeError", "ImportError", "IndexError", "ModuleNotFoundError", "NameError"),
        *("NotImplementedError", "RecursionError", "SyntaxError", "TypeError", "UnboundLocalError", "ValueError"),
    }
)


def classify(exception: ExceptionFacts) -> list[ExceptionKind]:
    """Name the causes that an exception points to.

    Args:
        exception: Type and text of what was raised.

    Returns:
        One kind a cause, the strongest first. Never empty: what nothing else explains is ``user_code_error``.
    """
    if exception.interrupt:
        return [ExceptionKind("interrupted", CERTAIN)]
    text = exception.message[:MAX_TEXT]
    type_name = exception.type_name.rsplit(".", 1)[-1]
    found: dict[str, ExceptionKind] = {}
    for cause, weight, types, words in _RULES:
        if types and not re.fullmatch(types, type_name):
            continue
        # re keeps the compiled patterns; this runs once a failed run.
        match = re.search("|".join(words), text, re.IGNORECASE) if words else None
        if words and match is None:
            continue
        if cause not in found or weight > found[cause].weight:
            found[cause] = ExceptionKind(cause, weight, match.group(0) if match else "")
    if not found or type_name in OWN_ERRORS:
        found["user_code_error"] = ExceptionKind("user_code_error", 1.8 if found else LIKELY)
    elif max(k.weight for k in found.values()) <= HINT:
        found["user_code_error"] = ExceptionKind("user_code_error", 1.5)
    return sorted(found.values(), key=lambda k: -k.weight)
