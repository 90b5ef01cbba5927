"""Clues from what a run takes of the machine."""

from __future__ import annotations

from failguard.core.finding import Finding
from failguard.diagnosis.case import Case, Clue
from failguard.diagnosis.wording import count

__all__ = [
    "clocks_are_slowed",
    "disk_fills",
    "history_kept",
    "history_kept_against",
    "loads_alone",
    "memory_grows",
    "nothing_leaks",
    "ranks_wait",
    "tensors_in_a_list",
    "waits_for_data",
    "workers_grow",
]

MANY_TENSORS = 64  # with a history, alive between two steps; usual are a few


def history_kept(case: Case) -> Clue | None:
    """Tensors that hold on to the graph that they came from are alive between two steps."""
    tensors = _evidence(case, "tensors_with_history")
    if tensors is None or tensors < MANY_TENSORS:
        return None
    text = f"{count(tensors)} tensors are kept with the history they were computed from, where a few are usual"
    return Clue(3.5, text)


def history_kept_against(case: Case) -> Clue | None:
    """Then it is no leak of another kind."""
    clue = history_kept(case)
    return None if clue is None else Clue(-2.0, clue.text)


def memory_grows(case: Case) -> Clue | None:
    """How much, and how fast."""
    finding = _growth(case)
    if finding is None:
        return None
    grown, steps = finding.evidence.get("grown_bytes", 0.0), finding.evidence.get("over_steps", 0.0)
    return Clue(1.5, f"memory grew by {count(grown / 1e6)} MB over {count(steps)} steps without a pause")


def tensors_in_a_list(case: Case) -> Clue | None:
    """A container of tensors that is longer than a model needs."""
    longest = _evidence(case, "longest_list")
    if longest is None:
        return None
    return Clue(0.7, f"a list, dict or deque holds {count(longest)} tensors")


def workers_grow(case: Case) -> Clue | None:
    """It is the processes of the loader that grow."""
    if not _evidence(case, "in_children"):
        return None
    return Clue(
        1.0,
        "the worker processes grow: each of them copies Python objects of the dataset as it reads them; arrays, or "
        "tensors, in place of lists of objects are not copied",
    )


def nothing_leaks(case: Case) -> Clue | None:
    """Memory that grows without end is not for the batch to mend."""
    return None if _growth(case) is None else Clue(-2.0, "memory grows with the steps, whatever the size of a batch")


def waits_for_data(case: Case) -> Clue | None:
    """The share of the step that waits."""
    finding = _finding(case, "resource.input_bound")
    if finding is None:
        return None
    share, wait_s = finding.evidence.get("wait_share", 0.0), finding.evidence.get("wait_s_per_step", 0.0)
    return Clue(3.0, f"{100 * share:.0f} % of a step ({1e3 * wait_s:.3g} ms) is waiting for its batch")


def loads_alone(case: Case) -> Clue | None:
    """The training process loads by itself."""
    workers = _evidence(case, "num_workers")
    if workers is None:
        return None
    if workers == 0:
        return Clue(1.0, "num_workers is 0: each batch is loaded while nothing else happens")
    return Clue(0.2, f"{count(workers)} workers load")


def clocks_are_slowed(case: Case) -> Clue | None:
    """By heat or a power brake."""
    finding = _finding(case, "resource.gpu_throttled")
    if finding is None:
        return None
    share = finding.evidence.get("throttled_share", 0.0)
    return Clue(1.5, f"clocks of the GPU were slowed in {100 * share:.0f} % of the samples")


def disk_fills(case: Case) -> Clue | None:
    """How much is free."""
    finding = _finding(case, "resource.disk_low")
    return None if finding is None else Clue(3.0, finding.message.rstrip("."))


def ranks_wait(case: Case) -> Clue | None:
    """A hang of several ranks is most often one that waits for another."""
    if "run.hang" not in case.codes or case.facts.world_size <= 1:
        return None
    return Clue(2.0, f"{count(case.facts.world_size)} ranks train together, and this one waits")


def _growth(case: Case) -> Finding | None:
    return _finding(case, "resource.memory_growth") or _finding(case, "resource.gpu_memory_growth")


def _finding(case: Case, code: str) -> Finding | None:
    return next((f for f in case.findings if f.code == code), None)


def _evidence(case: Case, name: str) -> float | None:
    return next((f.evidence[name] for f in case.findings if name in f.evidence), None)
