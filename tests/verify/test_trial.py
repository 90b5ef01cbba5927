"""Which moments and remedies are tried, and what is said when something is in the way."""

from __future__ import annotations

import math
from time import monotonic

from failguard.core.diagnosis import Cause, Diagnosis
from failguard.core.facts import Facts, OptimizerFacts
from failguard.core.finding import Finding, Severity
from failguard.core.run_info import RunInfo
from failguard.errors import InputError
from failguard.report.run_report import RunReport
from failguard.trials.results import Outcome, Replay, Verification
from failguard.verify.changes import Change
from failguard.verify.trial import try_remedies


class Recorded:
    """A capsule whose replays are known."""

    def __init__(self, original: list[Replay | InputError], changed: Replay | InputError) -> None:
        self.moments = [(0, 32), (320, 32)][: len(original)]
        self.original, self.changed = original, changed
        self.asked: list[tuple[int, Change | None]] = []

    def replay(self, which: int, change: Change | None, steps: int, until: float) -> Replay:
        self.asked.append((which, change))
        found = self.original[which] if change is None else self.changed
        if isinstance(found, InputError):
            raise found
        return found


def tried(capsule: Recorded, code: str = "loss.divergence", causes: tuple[str, ...] = ("learning_rate_too_high",)):
    root = Finding(code, Severity.ERROR, 330, 3, "It went wrong.")
    remedy = "Lower the learning rate from 0.5 to 0.01."
    report = RunReport(RunInfo("r", ""), findings=[root], root=root)
    report.diagnosis = Diagnosis("", tuple(Cause(c, 0.5, (), remedy) for c in causes))
    report.facts = Facts(optimizer=OptimizerFacts("SGD", 0.5))
    told: list[Verification] = []
    try_remedies(capsule, report, 48, monotonic() + 60, told.append)
    return told[-1]


BROKE = Replay(losses=[2.0], before=2.0, ended="loss", updates=3)
CALM = Replay(losses=[2.0], before=2.0, after=1.0, updates=48)


def test_a_remedy_that_helps() -> None:
    found = tried(Recorded([BROKE], CALM))
    assert found.outcome is Outcome.VERIFIED
    assert found.trials[0].removed is True
    assert found.reason == (
        "With the learning rate 0.01 instead of 0.5 the loss fell from 2 to 1 in 48 updates; as it was, the loss was "
        "not finite after 3 updates."
    )


def test_a_failure_that_begins_later_is_taken_up_later() -> None:
    capsule = Recorded([CALM, BROKE], CALM)
    found = tried(capsule)
    assert [(which, change is None) for which, change in capsule.asked] == [(0, True), (1, True), (1, False)]
    assert found.from_step == 320
    assert found.trials[0].sentence.endswith("(from step 320 of the run on)")


def test_a_remedy_that_does_not_help() -> None:
    found = tried(Recorded([BROKE], BROKE))
    assert found.outcome is Outcome.NOT_REMOVED
    assert found.trials[0].removed is False


def test_a_failure_that_does_not_come_back() -> None:
    capsule = Recorded([CALM, CALM], CALM)
    found = tried(capsule)
    assert found.outcome is Outcome.NOT_REPRODUCED
    assert "did not come back" in found.reason
    assert all(change is None for _, change in capsule.asked)
    assert found.trials[0].removed is None


def test_what_a_few_updates_cannot_show_and_what_needs_code_is_not_tried() -> None:
    capsule = Recorded([BROKE], CALM)
    assert "cannot show metric.overfitting" in tried(capsule, "metric.overfitting").reason
    found = tried(capsule, causes=("bad_labels",))
    assert found.outcome is Outcome.NOT_TRIED
    assert "change of the program or the data" in found.reason
    assert "was not tried" in found.trials[0].sentence
    assert capsule.asked == []


def test_another_training_is_no_proof() -> None:
    original = Replay(losses=[9.0], recorded_losses=[2.0], before=9.0, after=99.0)
    found = tried(Recorded([original], CALM))
    assert found.outcome is Outcome.NOT_TRIED
    assert "9 now and gave 2 in the run" in found.reason
    same = Replay(losses=[2.1], recorded_losses=[2.0], before=2.0, ended="loss", updates=3)
    assert tried(Recorded([same], CALM)).outcome is Outcome.VERIFIED
    unknown = Replay(losses=[2.1], recorded_losses=[math.nan], before=2.0, ended="loss", updates=3)
    assert tried(Recorded([unknown], CALM)).outcome is Outcome.VERIFIED


def test_errors_are_named() -> None:
    assert "cannot be trained on again: no loss" in tried(Recorded([InputError("no loss")], CALM)).reason
    found = tried(Recorded([BROKE], InputError("no floats")))
    assert (found.outcome, found.trials[0].removed) == (Outcome.NOT_TRIED, None)
    assert "no floats" in found.trials[0].sentence
    slow = Replay(before=2.0, after=2.0, ended="time", updates=2)
    assert "the time was up after 2 updates" in tried(Recorded([BROKE], slow)).trials[0].sentence


def test_an_original_that_cannot_be_trained_says_why() -> None:
    error = Replay(ended="error", error="RuntimeError: no trainer")
    assert "RuntimeError: no trainer" in tried(Recorded([error], CALM)).reason
    assert "time was up after 2 updates" in tried(Recorded([Replay(ended="time", updates=2)], CALM)).reason


def test_what_is_known_is_told_after_each_trial() -> None:
    told: list[dict[str, object]] = []
    root = Finding("loss.divergence", Severity.ERROR, 1, 0, "It rose.")
    report = RunReport(RunInfo("r", ""), findings=[root], root=root)
    report.facts = Facts(optimizer=OptimizerFacts("SGD", 0.5))
    remedy = "Lower the learning rate from 0.5 to 0.01."
    report.diagnosis = Diagnosis("", tuple(Cause(c, 0.5, (), remedy) for c in ("learning_rate_too_high", "dead_units")))
    try_remedies(Recorded([BROKE], CALM), report, 48, monotonic() + 60, lambda found: told.append(found.to_dict()))
    assert [t["outcome"] for t in told] == ["not_tried", "verified", "verified", "verified"]
    assert [[trial["removed"] for trial in t["trials"]] for t in told[1:3]] == [[True, None], [True, True]]  # type: ignore[attr-defined]
