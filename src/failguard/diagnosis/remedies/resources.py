"""What to do about memory, disk, devices, servers and slow input."""

from __future__ import annotations

from failguard.diagnosis.case import Case
from failguard.diagnosis.wording import count
from failguard.resources.machine import usable_cpus

__all__ = [
    "check_hardware",
    "close_connection",
    "feed_faster",
    "free_disk",
    "less_memory",
    "resume",
    "smaller_batch",
]


def smaller_batch(case: Case) -> str:
    """For a batch that does not fit."""
    batch = case.facts.batch_size
    if batch == 1:
        return "The batch size is 1 already: use 16-bit floats, gradient checkpointing or a smaller model."
    if batch:
        return (
            f"Lower the batch size from {count(batch)} to {count(max(batch // 2, 1))} and accumulate "
            f"{count(case.facts.accumulate_batches * 2)} batches per update, which keeps the training as it is."
        )
    return "Halve the batch size and accumulate two batches per update, which keeps the training as it is."


def less_memory(case: Case) -> str:
    """For host memory that ran out."""
    text = case.exception.message.lower() if case.exception else ""
    if "shared memory" in text or "bus error" in text:
        return (
            "Give the container more shared memory (docker run --shm-size=8g), or use num_workers=0 or "
            'torch.multiprocessing.set_sharing_strategy("file_system").'
        )
    return (
        "Keep less in memory: read the data in parts, use fewer loader workers, and store numbers (loss.item()) "
        "instead of tensors between steps."
    )


def feed_faster(case: Case) -> str:
    """For a step that waits for its data."""
    finding = next((f for f in case.findings if f.code == "resource.input_bound"), None)
    workers = None if finding is None else finding.evidence.get("num_workers")
    if case.facts.framework == "keras":
        return (
            "Prepare batches in the background: workers and use_multiprocessing of keras.utils.PyDataset, or "
            "dataset.map(..., num_parallel_calls=AUTOTUNE).prefetch(AUTOTUNE); cache what is decoded again each epoch."
        )
    if workers is None:
        return "Load in the background: DataLoader(num_workers=4, pin_memory=True, persistent_workers=True)."
    cpus = usable_cpus()
    more = min(max(4, 2 * int(workers)), max(int(cpus or 4) - 1, 1))
    pinned = finding is not None and finding.evidence.get("pin_memory") == 1.0
    pin = "" if pinned or not (case.facts.device or "").startswith("cuda") else ", pin_memory=True"
    if more <= workers:
        return (
            f"num_workers={int(workers)} already uses the CPUs of this machine ({cpus or 0:g}): make each sample "
            "cheaper (decode once and cache, smaller images, faster formats), or use a machine with more CPUs."
        )
    return f"Load in the background: num_workers {int(workers)} -> {more}{pin}, persistent_workers=True."


def check_hardware(case: Case) -> str:
    """For an accelerator that fails."""
    return (
        "Run the same job on another device; look at the error counters with `nvidia-smi -q -d ECC` and the kernel log."
    )


def close_connection(case: Case) -> str:
    """For lost ranks and servers."""
    if case.facts.world_size > 1:
        return (
            f"Look at the log of each of the {count(case.facts.world_size)} ranks for the first error: a rank that "
            "died makes the others time out."
        )
    return "Check that the server can be reached from this machine, then start again from the last checkpoint."


def free_disk(case: Case) -> str:
    """For a full disk."""
    return "Free space where checkpoints and logs go, keep fewer checkpoints, or write to another disk."


def resume(case: Case) -> str:
    """For a run that was ended from outside."""
    return "Start again from the last checkpoint if the run should go on."
