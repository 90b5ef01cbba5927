from __future__ import annotations

import re

import pytest

from failguard.core.diagnosis import Cause, Diagnosis
from failguard.core.facts import Facts, OptimizerFacts
from failguard.core.observation import ExceptionFacts
from failguard.diagnosis import fingerprint
from failguard.diagnosis.fingerprint import normalise

DIAGNOSIS = Diagnosis("x", (Cause("learning_rate_too_high", 0.9),))


def facts(rate: float | None = 0.5, name: str = "SGD") -> Facts:
    return Facts(optimizer=OptimizerFacts(name=name, learning_rate=rate))


def error(message: str, frame: str | None = "train.py:12 in step: loss.backward()") -> ExceptionFacts:
    return ExceptionFacts("RuntimeError", message, frame=frame)


def test_it_is_short_hex_and_stable(make_finding):
    first = fingerprint(make_finding("loss.divergence"), DIAGNOSIS, None, facts())
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert first == fingerprint(
        make_finding("loss.divergence", 99, message="Other words."), DIAGNOSIS, None, facts(0.9)
    )


def test_nothing_failed():
    assert fingerprint(None, DIAGNOSIS, None, facts()) is None


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (
            "CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0)",
            "CUDA out of memory. Tried to allocate 20.50 GiB (GPU 3)",
        ),
        ("object at 0x7f12ab", "object at 0xdeadbeef"),
        ("No such file: /home/a/b.csv", "No such file: /data/other/b.csv"),
        ("rank 3 timed out after 1800 s", "rank 11 timed out after 600 s"),
        ("worker (pid 123) exited", "worker (pid 4567) exited"),
    ],
)
def test_what_changes_from_run_to_run_does_not_count(make_finding, a, b):
    root = make_finding("run.exception")
    assert normalise(a) == normalise(b)
    assert fingerprint(root, DIAGNOSIS, error(a), facts()) == fingerprint(root, DIAGNOSIS, error(b), facts())


def test_an_edit_above_the_line_or_another_folder_does_not_count(make_finding):
    root = make_finding("run.exception")
    frames = ["/home/a/train.py:12 in step: loss.backward()", "/srv/b/train.py:40 in step: loss.backward()"]
    one, other = (fingerprint(root, DIAGNOSIS, error("boom", frame), facts()) for frame in frames)
    assert one == other


def test_the_index_of_a_layer_does_not_count(make_finding):
    one, other = (
        fingerprint(make_finding("loss.non_finite", module=module, tensor="output"), DIAGNOSIS, None, facts())
        for module in ("encoder.layers.3.linear1", "encoder.layers.11.linear2")
    )
    assert one == other


def test_what_matters_counts(make_finding):
    root = make_finding("loss.divergence")
    base = fingerprint(root, DIAGNOSIS, None, facts())
    others = [
        fingerprint(make_finding("loss.non_finite"), DIAGNOSIS, None, facts()),
        fingerprint(root, Diagnosis("x"), None, facts()),
        fingerprint(make_finding("loss.divergence", module="head"), DIAGNOSIS, None, facts()),
        fingerprint(root, DIAGNOSIS, error("boom"), facts()),
        fingerprint(root, DIAGNOSIS, error("bang"), facts()),
        fingerprint(root, DIAGNOSIS, error("boom", "train.py:12 in other: x"), facts()),
        fingerprint(root, DIAGNOSIS, None, facts(0.05)),
        fingerprint(root, DIAGNOSIS, None, facts(name="Adam")),
    ]
    assert len({base, *others}) == len(others) + 1


@pytest.mark.parametrize("rate", [None, 0.0, -1.0, float("nan"), float("inf"), 1e-300])
def test_odd_rates(make_finding, rate):
    assert fingerprint(make_finding("loss.divergence"), DIAGNOSIS, None, facts(rate))


@pytest.mark.parametrize("code", ["run.exception", "loss.non_finite", "resource.oom"])
def test_what_fails_before_any_update_is_another_failure(make_finding, code):
    """A shape that does not fit in the first batch is not the one of an odd last batch."""

    def at(step: int, accumulate: int = 1) -> str | None:
        known = facts()
        known.accumulate_batches = accumulate
        return fingerprint(make_finding(code, step), DIAGNOSIS, error("boom"), known)

    assert at(0) != at(1)
    assert at(1) == at(5_000)
    assert at(3, accumulate=4) == at(0, accumulate=4)
    assert at(4, accumulate=4) == at(1)


def test_the_step_of_a_finding_over_many_steps_does_not_count(make_finding):
    one, other = (fingerprint(make_finding("loss.divergence", step), DIAGNOSIS, None, facts()) for step in (0, 140))
    assert one == other
