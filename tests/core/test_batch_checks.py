"""What is told of single batches as they come, once each, and what is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from failguard.core.batch_checks import BatchChecks

R = np.random.default_rng(0)


def batch(n: int = 32) -> Any:
    return R.normal(size=(n, 6)).astype("float32")


def told(checks: BatchChecks) -> list[tuple[str, str]]:
    return [(f.code, f.message) for f in checks.take()]


def test_a_batch_of_bad_values_is_named_with_its_rows_and_only_once_a_part() -> None:
    checks = BatchChecks(raises=["data.non_finite"])
    x, y = batch(), batch()[:, 0]
    x[[3, 7], 1] = np.nan
    y[5] = np.inf
    checks.add([batch(), x], [y], 12, 1)
    checks.add([x], [], 13, 1)
    first, second = checks.take()
    assert first.message == "Batch 12: 2 values of NaN or Inf in the input (rows 3, 7)."
    assert second.message == "Batch 12: 1 value of NaN or Inf in the target (row 5)."
    assert (first.step, first.epoch, first.severity, first.where.rows) == (12, 1, "error", (3, 7))
    assert first.evidence == {"non_finite_values": 2.0, "rows": 2.0}


def test_values_whose_sum_overflows_are_finite() -> None:
    checks = BatchChecks()
    for step in range(3):
        checks.add([np.full((32, 6), 3e38, "float32") * R.random((32, 6), "float32"), batch()], [], step, 0)
    assert told(checks) == []


def test_absurd_values_are_told_from_those_of_the_batches_before() -> None:
    checks = BatchChecks()
    for step in range(20):
        checks.add([batch()], [batch()[:, 0]], step, 0)
    x = batch()
    x[4, 2] = -1e6
    checks.add([x], [], 20, 0)
    (finding,) = checks.take()
    assert (finding.code, finding.where.batch, finding.where.rows) == ("data.outliers", 20, (4,))
    assert finding.message.startswith("Batch 20: 1 values up to 1e+06 in the input; until then the largest was")


@pytest.mark.parametrize(
    "draw", [lambda n: R.standard_t(1.5, n), lambda n: np.exp(3 * R.normal(size=n)), lambda n: R.pareto(1.5, n)]
)
def test_heavy_tails_are_no_absurd_values(draw: Any) -> None:
    for _ in range(20):
        checks = BatchChecks()
        for step in range(80):
            checks.add([np.asarray(draw((32, 6)))], [], step, 0)
        assert told(checks) == []


def test_sparse_inputs_are_no_absurd_values() -> None:
    checks = BatchChecks()
    for step in range(40):
        x = np.zeros((8, 50), "float32")
        x[0, step] = 1.0 if step > 12 else 0.0
        checks.add([x], [], step, 0)
    assert [code for code, _ in told(checks)] in ([], ["data.constant_feature"])


def test_fractions_where_a_loss_takes_class_numbers() -> None:
    checks = BatchChecks()
    y = R.integers(0, 3, 32).astype(float)
    checks.add([batch()], [y], 0, 0, 3, class_loss="sparse_categorical_crossentropy")
    y[[2, 9]] = 0.5, np.nan
    checks.add([batch()], [y], 1, 0, 3)  # any other loss
    assert [code for code, _ in told(checks)] == ["data.non_finite"]
    checks.add([batch()], [y], 2, 0, 3, class_loss="sparse_categorical_crossentropy")
    (finding,) = checks.take()
    assert (finding.code, finding.where.rows) == ("data.labels", (2,))
    assert "labels are no whole numbers (such as 0.5)" in finding.message


def test_whole_floats_are_class_numbers_where_the_loss_takes_them() -> None:
    checks = BatchChecks()
    checks.add([batch()], [np.array([0.0, 1.0, 7.0] * 8)], 0, 0, 3, class_loss="sparse_categorical_crossentropy")
    (finding,) = checks.take()
    assert finding.message.startswith(
        "Batch 0: labels reach from 0 to 7, but the model has 3 outputs, for 0 to 2 (rows"
    )


@pytest.mark.parametrize(("shares", "ratio"), [((0.93, 0.07), True), ((0.8, 0.2), False), ((0.1,) * 10, False)])
def test_imbalance(shares: tuple[float, ...], ratio: bool) -> None:
    checks = BatchChecks()
    for step in range(64):
        checks.add([batch()], [R.choice(len(shares), 32, p=shares)], step, 0)
    messages = told(checks)
    assert [code for code, _ in messages] == ["data.imbalance"] * ratio
    assert all(":1)" in message for _, message in messages)


@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("size", [1, 8, 64])
def test_equal_classes_are_never_lopsided(classes: int, size: int) -> None:
    for _ in range(20):
        checks = BatchChecks()
        for step in range(64):
            checks.add([batch(size)], [R.integers(0, classes, size)], step, 0)
        assert told(checks) == []


def test_copies_are_looked_for_among_batches_without_a_gap() -> None:
    a, b, c = batch(), batch(), batch()
    checks = BatchChecks()
    for step, x in ((0, a), (1, b), (40, a), (41, c)):
        checks.add([x], [], step, 0)
    assert told(checks) == []


def test_leaks_are_told_once_and_ignored_codes_never() -> None:
    for ignore in ((), ("data.leakage", "data.non_finite")):
        checks = BatchChecks(ignore=ignore)
        x = batch(600)
        x[0, 0] = np.nan
        checks.add([x], [], 0, 0)
        assert checks.wants_validation == (not ignore)
        checks.add_validation([x[300:]])
        for _ in range(2):
            checks.compare(600, 5, 1)
        found = checks.take()
        assert [f.code for f in found] == ([] if ignore else ["data.non_finite", "data.leakage"])
        if not ignore:
            assert (found[1].where.batch, found[1].where.tensor, found[1].step) == (None, "input", 5)
