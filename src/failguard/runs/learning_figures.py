"""The learning metrics of judged runs, each with what it was computed from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from failguard.diagnosis.wording import count, number
from failguard.runs.entry import RunEntry
from failguard.runs.figures import Figure, mean_of, median_of, share, total_of
from failguard.runs.judged import JudgedRun

__all__ = ["FIGURES", "figures_of"]

HOURS = ("used_h", "wasted_h", "saved_h", "gpu_h", "wasted_gpu_h", "saved_gpu_h")
_WORDS = {
    "used_h": "Hours on the machine",
    "wasted_h": "Hours after the last weights worth keeping",
    "saved_h": "Hours of the plan that a stop spared",
    "gpu_h": "GPU-hours",
    "wasted_gpu_h": "GPU-hours after the last weights worth keeping",
    "saved_gpu_h": "GPU-hours of the plan that a stop spared",
}

FIGURES = (
    "experiment_velocity",
    "failure_rate",
    "failure_recovery_time_h",
    "lesson_application_rate",
    "repeat_failure_rate",
    "innovation_index",
    "time_to_detect_s",
    *HOURS,
)
"""Every number by name, in the order in which they are told."""


def figures_of(judged: Sequence[JudgedRun], weeks: float | None) -> dict[str, Figure]:
    """All numbers.

    Args:
        judged: The runs that count, oldest first.
        weeks: Length of the window.
    """
    failures = [j for j in judged if j.entry.failed]
    found = [
        _velocity(judged, weeks),
        _failure_rate(judged, failures),
        _recovery(failures),
        _application(judged),
        _repeats(failures),
        _innovation(judged),
        _detection(failures),
        *(_hours(name, judged) for name in HOURS),
    ]
    return {figure.name: figure for figure in found}


def _velocity(judged: Sequence[JudgedRun], weeks: float | None) -> Figure:
    n = len(judged)
    if weeks is None:
        return Figure("experiment_velocity", None, "No run, and no window to count in.")
    basis = f"{_runs(n)} started in {_plural(number(round(weeks, 2)), 'week')}."
    return Figure("experiment_velocity", n / weeks, basis, n, n, runs=_ids(judged))


def _failure_rate(judged: Sequence[JudgedRun], failures: Sequence[JudgedRun]) -> Figure:
    known = [j for j in judged if j.entry.outcome is not None]
    running = sum(j.entry.status == "running" for j in judged if j.entry.outcome is None)
    unknown = len(judged) - len(known) - running
    basis = f"{count(len(failures))} of {_runs(len(known))} with a known outcome failed."
    if unknown:
        basis += f" Of {_runs(unknown)} the outcome is not known: failguard did not watch them."
    if running:
        basis += f" {_runs(running)} have not ended."
    left_out = running + unknown
    if not known:
        return Figure(
            "failure_rate", None, f"No run has a known outcome.{basis[basis.index('.') + 1 :]}", 0, 0, left_out
        )
    rate = share(len(failures), len(known))
    return Figure("failure_rate", rate, basis, len(failures), len(known), left_out, _ids(failures))


def _recovery(failures: Sequence[JudgedRun]) -> Figure:
    name = "failure_recovery_time_h"
    recovered = [j for j in failures if j.recovery_h is not None]
    n, of = len(recovered), len(failures)
    if not of:
        return Figure(name, None, "No run failed.")
    basis = f"{count(n)} of {_plural(count(of), 'failure')} had a later success in the same line of work."
    value = mean_of([j.recovery_h for j in recovered if j.recovery_h is not None])
    return Figure(name, value, basis, n, of, of - n, _ids(recovered))


def _application(judged: Sequence[JudgedRun]) -> Figure:
    name = "lesson_application_rate"
    lessons = [lesson for j in judged for lesson in j.lessons]
    can_be_judged = [lesson for lesson in lessons if lesson.judgeable]
    applied = [lesson for lesson in can_be_judged if lesson.applied_by is not None]
    left_out = len(lessons) - len(can_be_judged)
    if not lessons:
        return Figure(name, None, "No lesson and no next step was written on these runs.")
    told = (
        f" Of {_plural(count(left_out), 'more lesson')} no change is named that could be checked." if left_out else ""
    )
    if not can_be_judged:
        basis = f"None of {_plural(count(len(lessons)), 'lesson')} names a change that can be checked, such as lr=0.03."
        return Figure(name, None, basis, 0, 0, left_out)
    n, of = len(applied), len(can_be_judged)
    basis = f"A later run of the line made the change of {count(n)} of {_plural(count(of), 'lesson')}.{told}"
    runs = tuple(dict.fromkeys(lesson.run_id for lesson in applied))
    return Figure(name, share(n, of), basis, n, of, left_out, runs)


def _repeats(failures: Sequence[JudgedRun]) -> Figure:
    name = "repeat_failure_rate"
    if not failures:
        return Figure(name, None, "No run failed.")
    without = sum(j.entry.fingerprint is None for j in failures)
    repeats = [j for j in failures if j.repeat_of is not None]
    n, of = len(repeats), len(failures)
    if without == of:
        why = f"None of {_plural(count(of), 'failure')} has a fingerprint: failguard did not watch them."
        return Figure(name, None, why, 0, of, without)
    basis = f"{count(n)} of {_plural(count(of), 'failure')} had the fingerprint of an earlier run."
    if without:
        basis += f" {count(without)} have no fingerprint and count as new."
    return Figure(name, share(n, of), basis, n, of, without, _ids(repeats))


def _innovation(judged: Sequence[JudgedRun]) -> Figure:
    known = [j for j in judged if j.is_new is not None]
    new = [j for j in known if j.is_new]
    left_out = len(judged) - len(known)
    if not known:
        return Figure("innovation_index", None, "No run has a known configuration.", 0, 0, left_out)
    basis = f"{count(len(new))} of {_runs(len(known))} were in a region of configurations not tried before."
    if left_out:
        basis += f" Of {_runs(left_out)} no configuration is known."
    return Figure("innovation_index", share(len(new), len(known)), basis, len(new), len(known), left_out, _ids(new))


def _detection(failures: Sequence[JudgedRun]) -> Figure:
    name = "time_to_detect_s"
    known = [j for j in failures if j.entry.detected_after_s is not None]
    n, of = len(known), len(failures)
    if not of:
        return Figure(name, None, "No run failed.")
    value = median_of([j.entry.detected_after_s for j in known if j.entry.detected_after_s is not None])
    basis = f"Of {count(n)} of {_plural(count(of), 'failure')} it is known when the root finding was first seen."
    return Figure(name, value, basis, n, of, of - n, _ids(known))


def _hours(name: str, judged: Sequence[JudgedRun]) -> Figure:
    read: Callable[[RunEntry], float | None] = lambda e: getattr(e, name)  # noqa: E731
    known = [j for j in judged if read(j.entry) is not None]
    value = total_of([hours for j in known if (hours := read(j.entry)) is not None])
    basis = f"{_WORDS[name]}, known of {count(len(known))} of {_runs(len(judged))}."
    counted = [j for j in known if read(j.entry)]
    return Figure(name, value, basis, len(counted), len(known), len(judged) - len(known), _ids(counted))


def _ids(judged: Iterable[JudgedRun]) -> tuple[str, ...]:
    return tuple(j.entry.run_id for j in judged)


def _runs(n: int) -> str:
    return _plural(count(n), "run")


def _plural(n: str, word: str) -> str:
    return f"{n} {word}" if n == "1" else f"{n} {word}s"
