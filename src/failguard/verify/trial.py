"""Tries the remedies of one diagnosis on one capsule."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from failguard.diagnosis.wording import count
from failguard.errors import InputError
from failguard.report.run_report import RunReport
from failguard.trials.results import Outcome, Replay, Trial, Verification
from failguard.verify.changes import Change, change_for
from failguard.verify.judge import Symptom, has_symptom, is_judged, removed, sentence, symptom_of, went

__all__ = ["Capsule", "try_remedies"]

UNLIKE = 0.5  # relative difference of the first loss to the recorded one; more, and it is another training


class Capsule(Protocol):
    """An opened capsule of any framework."""

    @property
    def moments(self) -> list[tuple[int, int]]:
        """Step and number of batches of each moment to take up from, the start of the run first."""

    def replay(self, which: int, change: Change | None, steps: int, until: float) -> Replay:
        """Train from a moment on, with a change or as it was."""


def try_remedies(
    capsule: Capsule, report: RunReport, steps: int, until: float, tell: Callable[[Verification], None]
) -> None:
    """Train as it was, from the start and then from later moments, until the symptom is seen; then with each remedy.

    Args:
        capsule: Of the run.
        report: Of the run.
        steps: Updates of one trial, at most.
        until: When the time is up, by ``time.monotonic``.
        tell: Is called with what is known, again and again: the process may be ended at any time.
    """
    found = Verification()
    tell(found)
    root = report.root
    symptoms = symptom_of(root.code) if root is not None else ()
    changes = [(cause, change_for(cause, report.facts)) for cause in report.diagnosis.causes]
    found.trials = [
        Trial(cause.code, sentence="" if change else "needs another program or other data, so it was not tried")
        for cause, change in changes
    ]
    todo = [(trial, change) for trial, (_, change) in zip(found.trials, changes, strict=True) if change is not None]
    if not symptoms:
        code = "nothing" if root is None else root.code
        found.reason = f"A few dozen updates cannot show {code}, so no remedy was tried."
    elif not todo:
        found.reason = "None of the remedies can be tried without a change of the program or the data."
    else:
        _try(capsule, found, symptoms, todo, steps, until, tell)
    tell(found)


def _try(
    capsule: Capsule,
    found: Verification,
    symptoms: tuple[Symptom, ...],
    todo: list[tuple[Trial, Change]],
    steps: int,
    until: float,
    tell: Callable[[Verification], None],
) -> None:
    shown: Symptom | None = None
    original: Replay | None = None
    which = 0
    parts = len(todo) + 1
    for which in _order(capsule):
        try:
            original = capsule.replay(which, None, steps, _share(until, parts))
        except InputError as error:
            found.reason = f"The recorded steps cannot be trained on again: {error}."
            return
        found.original, found.from_step, found.batches = original, *capsule.moments[which]
        found.reason = _in_the_way(original)
        if found.reason:
            return
        shown = next((s for s in symptoms if is_judged(original) and has_symptom(original, s)), None)
        if shown is not None:
            break
    if original is None or shown is None:
        found.outcome = Outcome.NOT_REPRODUCED
        how = "nothing was trained" if original is None else went(original)
        found.reason = f"The failure did not come back on the recorded batches ({how}), so no remedy could be tried."
        return
    for i, (trial, change) in enumerate(todo):
        _try_one(capsule, which, trial, change, steps, _share(until, len(todo) - i), original, shown)
        if which and trial.removed is not None:
            trial.sentence += f" (from step {count(capsule.moments[which][0])} of the run on)"
        _sum_up(found)
        tell(found)


def _sum_up(found: Verification) -> None:
    """What the trials so far say together."""
    judged = [trial for trial in found.trials if trial.removed is not None]
    helped = [trial for trial in judged if trial.removed]
    if helped:
        found.outcome, found.reason = Outcome.VERIFIED, _capital(helped[0].sentence)
    elif judged:
        found.outcome, found.reason = Outcome.NOT_REMOVED, "No remedy that was tried removed the symptom."
    else:
        found.reason = "No remedy could be tried to the end."


def _try_one(
    capsule: Capsule,
    which: int,
    trial: Trial,
    change: Change,
    steps: int,
    until: float,
    original: Replay,
    symptom: Symptom,
) -> None:
    trial.what = change.what
    try:
        trial.replay = replay = capsule.replay(which, change, steps, until)
    except InputError as error:
        trial.sentence = f"{change.what}: {error}"
        return
    if not is_judged(replay):
        why = "the time was up" if replay.ended == "time" else replay.error
        trial.sentence = f"{change.what}: {why} after {replay.updates} updates"
        return
    trial.removed = removed(replay, symptom)
    trial.sentence = sentence(change, replay, original)


def _order(capsule: Capsule) -> list[int]:
    """The starting weights first, as the remedies are for a new run; then the moment with the longest lead."""
    return list(range(len(capsule.moments)))


def _share(until: float, parts: int) -> float:
    now = monotonic()
    return now + max(until - now, 0.0) / parts


def _in_the_way(replay: Replay) -> str:
    """Why a replay without any change says nothing: an error, no time, or another training than the run was."""
    if replay.ended == "error":
        return f"The recorded steps cannot be trained on again: {replay.error}."
    if not is_judged(replay):
        return f"The time was up after {count(replay.updates)} updates of the first trial."
    recorded = replay.recorded_losses[0] if replay.recorded_losses else None
    if recorded is None or not replay.losses or not math.isfinite(recorded):
        return ""
    first = replay.losses[0]
    if math.isfinite(first) and abs(first - recorded) <= UNLIKE * max(abs(recorded), 1e-6):
        return ""
    return (
        f"The first recorded batch gives a loss of {first:.6g} now and gave {recorded:.6g} in the run, so this is not "
        "the same training; nothing was tried."
    )


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
