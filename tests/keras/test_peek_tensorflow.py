"""A batch that is taken out of an iterator reaches the step, whatever happens."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from failguard.keras.peek_tensorflow import Peek  # noqa: E402

pytestmark = pytest.mark.framework


def batches():
    x, y = np.arange(20, dtype="float32").reshape(10, 2), np.arange(10)
    return iter(tf.data.Dataset.from_tensor_slices((x, y)).batch(4))


def handed_on(peek, iterator):
    taken = peek.take(iterator)
    return None if taken is None else [t.numpy().tolist() for t in next(peek.iterator)]


def test_batches_are_handed_on_in_their_order_and_the_end_is_seen():
    peek, iterator, plain = Peek(batches()), batches(), batches()
    for expected in plain:
        assert handed_on(peek, iterator) == [t.numpy().tolist() for t in expected]
    assert peek.take(iterator) is None


def test_a_batch_that_cannot_be_kept_is_handed_on_all_the_same(monkeypatch):
    peek, iterator = Peek(batches()), batches()

    def full(**keywords):
        raise tf.errors.ResourceExhaustedError(None, None, "no memory")

    monkeypatch.setattr(tf.raw_ops, "AssignVariableOp", full)
    assert handed_on(peek, iterator) == [[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]], [0, 1, 2, 3]]
    assert not peek.fits(iterator), "the next one is made anew"


def test_what_is_no_iterator_of_plain_tensors_is_left_alone():
    assert Peek.suits(batches())
    assert not Peek.suits(iter([1, 2]))
    ragged = tf.data.Dataset.from_tensors(tf.ragged.constant([[1], [2, 3]]))
    assert not Peek.suits(iter(ragged))
