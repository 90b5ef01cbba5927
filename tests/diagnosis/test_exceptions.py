from __future__ import annotations

import pytest

from failguard.core.codes import CAUSES
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity
from failguard.core.history import History
from failguard.core.observation import ExceptionFacts
from failguard.diagnosis import diagnose, diagnose_error
from failguard.diagnosis.exceptions import _RULES, classify

# Texts as the libraries write them.
MESSAGES = [
    ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (32x64 and 128x10)", "shape_mismatch"),
    ("RuntimeError", "The size of tensor a (3) must match the size of tensor b (4)", "shape_mismatch"),
    ("ValueError", "Expected input batch_size (32) to match target batch_size (16).", "shape_mismatch"),
    (
        "ValueError",
        'Input 0 of layer "dense" is incompatible with the layer: expected axis -1 of input shape to have value 64',
        "shape_mismatch",
    ),
    ("InvalidArgumentError", "Incompatible shapes: [32,10] vs. [32]", "shape_mismatch"),
    ("ValueError", "operands could not be broadcast together with shapes (3,) (4,)", "shape_mismatch"),
    (
        "RuntimeError",
        "stack expects each tensor to be equal size, but got [3] at entry 0 and [4] at entry 1",
        "shape_mismatch",
    ),
    ("RuntimeError", "expected scalar type Float but found Double", "dtype_mismatch"),
    ("RuntimeError", "mat1 and mat2 must have the same dtype, but got Double and Float", "dtype_mismatch"),
    ("RuntimeError", "\"log_softmax\" not implemented for 'Long'", "dtype_mismatch"),
    (
        "RuntimeError",
        "Expected all tensors to be on the same device, but found at least two devices!",
        "device_mismatch",
    ),
    (
        "RuntimeError",
        "Input type (torch.cuda.FloatTensor) and weight type (torch.FloatTensor) should be the same",
        "device_mismatch",
    ),
    ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB.", "batch_size_too_large"),
    ("ResourceExhaustedError", "OOM when allocating tensor with shape[64,3]", "batch_size_too_large"),
    ("XlaRuntimeError", "RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes.", "batch_size_too_large"),
    ("MemoryError", "Unable to allocate 7.45 GiB for an array with shape (1000000000,)", "host_memory_leak"),
    ("RuntimeError", "DataLoader worker (pid 12) is killed by signal: Killed.", "host_memory_leak"),
    ("FileNotFoundError", "[Errno 2] No such file or directory: 'train.csv'", "missing_file_or_column"),
    ("KeyError", "\"['age'] not in index\"", "missing_file_or_column"),
    ("KeyError", "'label'", "missing_file_or_column"),
    ("OSError", "[Errno 28] No space left on device", "disk_full"),
    ("OperationalError", "(sqlite3.OperationalError) database or disk is full", "disk_full"),
    ("IndexError", "Target 10 is out of bounds.", "bad_labels"),
    ("InvalidArgumentError", "Received a label value of 12 which is outside the valid range of [0, 10).", "bad_labels"),
    ("RuntimeError", "all elements of target should be between 0 and 1", "bad_labels"),
    ("RuntimeError", "element 0 of tensors does not require grad and does not have a grad_fn", "detached_graph"),
    ("ValueError", "No gradients provided for any variable.", "detached_graph"),
    ("RuntimeError", "Trying to backward through the graph a second time", "retained_graph"),
    ("RuntimeError", "Function 'LogBackward0' returned nan values in its 0th output.", "numerical_instability"),
    ("ValueError", "Input X contains NaN.", "numerical_instability"),
    ("DistBackendError", "NCCL error in: unhandled system error", "network_or_collective_failure"),
    ("ConnectionResetError", "[Errno 104] Connection reset by peer", "network_or_collective_failure"),
    ("RuntimeError", "CUDA error: uncorrectable ECC error encountered", "hardware_fault"),
    ("RuntimeError", "DataLoader worker (pid(s) 4711) exited unexpectedly", "host_memory_leak"),
    (
        "RuntimeError",
        "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory.",
        "host_memory_leak",
    ),
    (
        "BrokenProcessPool",
        "A process in the process pool was terminated abruptly while the future was running or pending.",
        "host_memory_leak",
    ),
    ("AcceleratorError", "CUDA error: device-side assert triggered", "bad_labels"),
    ("AttributeError", "Can't pickle local object 'main.<locals>.<lambda>'", "serialization_failure"),
    ("PicklingError", "Can't pickle <function <lambda>>", "serialization_failure"),
    ("RuntimeError", "Error(s) in loading state_dict for Net: size mismatch for fc.weight", "serialization_failure"),
    ("UnpicklingError", "Weights only load failed.", "serialization_failure"),
    ("EOFError", "Ran out of input", "serialization_failure"),
    ("TypeError", "Object of type Tensor is not JSON serializable", "serialization_failure"),
    ("ValueError", "my own check failed", "user_code_error"),
    ("AttributeError", "'Net' object has no attribute 'head'", "user_code_error"),
    ("RuntimeError", "", "user_code_error"),
]


@pytest.mark.parametrize(("type_name", "message", "cause"), MESSAGES, ids=[m[1][:40] or "no text" for m in MESSAGES])
def test_messages_of_the_libraries(type_name, message, cause):
    assert classify(ExceptionFacts(type_name, message))[0].cause == cause


def test_an_interrupt_is_nothing_else():
    kinds = classify(ExceptionFacts("KeyboardInterrupt", "CUDA out of memory", interrupt=True))
    assert [k.cause for k in kinds] == ["interrupted"]


def test_rules_name_causes_of_the_taxonomy():
    assert {rule[0] for rule in _RULES} <= set(CAUSES)


def test_a_huge_message_is_quick_enough_to_search():
    kinds = classify(ExceptionFacts("RuntimeError", "expected shape contains nan column label " * 100_000))
    assert kinds


def test_the_memory_picture_is_evidence():
    message = (
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.02 GiB is "
        "free. Of the allocated memory 70.50 GiB is allocated by PyTorch, and 5.10 GiB is reserved by PyTorch but "
        "unallocated."
    )
    error = ExceptionFacts("OutOfMemoryError", message)
    root = Finding("run.exception", Severity.FATAL, 3, 0, message)
    gpus = [{"index": 0, "memory_used_bytes": {"peak": 8.1e10}}]
    history = History(facts=Facts(batch_size=64))
    cause = diagnose([root], root, history, error, {"gpus": gpus}).causes[0]
    assert cause.code == "batch_size_too_large"
    (memory,) = [e for e in cause.evidence if e.startswith("device memory")]
    assert memory == (
        "device memory: 2.00 GiB wanted, 79.10 GiB in all, 1.02 GiB free, 70.50 GiB held by tensors, 5.10 GiB "
        "reserved and unused, GPU 0 held 81.0 GB at most"
    )


def test_host_memory_that_ran_out():
    error = ExceptionFacts("RuntimeError", "DataLoader worker (pid 12) is killed by signal: Killed.")
    root = Finding("run.exception", Severity.FATAL, 3, 0, error.message)
    resources = {"process_rss_bytes": {"peak": 2.2e10}, "host_memory_available_bytes": {"min": 4e8}}
    cause = diagnose([root], root, History(), error, resources).causes[0]
    assert cause.code == "host_memory_leak"
    assert "the process held 22.0 GB of host memory at most, when 0.4 GB were left" in cause.evidence


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("CUDA error: device-side assert triggered", "CUDA_LAUNCH_BLOCKING=1"),
        ("Can't pickle local object 'main.<locals>.<lambda>'", "top level of a module"),
        ("Error(s) in loading state_dict for Net", "sizes it had"),
        ("Weights only load failed.", "weights_only=False"),
        ("Ran out of input: cannot pickle", "damaged or cut short"),
        ("DataLoader worker is killed by signal: Bus error.", "--shm-size"),
    ],
)
def test_remedies_of_exceptions_are_concrete(message, words):
    assert words in diagnose_error(ExceptionFacts("RuntimeError", message)).causes[0].remedy
