"""Looking at batches beforehand: arrays, loaders and datasets, without touching what training will see."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from failguard import DataChecks, InputError
from failguard.errors import ConfigurationError

R = np.random.default_rng(0)
X = R.normal(size=(1_000, 6)).astype("float32")
Y = R.integers(0, 3, 1_000)


def codes(*given: Any, **more: Any) -> list[str]:
    return [f.code for f in DataChecks().look_at(*given, **more)]


def test_healthy_data_are_silent() -> None:
    assert codes(X, Y, validation=(X[:0], Y[:0]), classes=3) == []
    assert codes({"a": X, "b": X[:, :2]}, Y) == []
    assert codes(R.integers(0, 255, (300, 8, 8, 3), dtype=np.uint8), Y[:300]) == []


def test_values_that_are_not_finite_are_named_with_their_rows() -> None:
    bad = X.copy()
    bad[[300, 310, 999], 2] = np.nan
    (finding,) = DataChecks().look_at(bad, Y)
    assert finding.code == "data.non_finite"
    assert (finding.where.batch, finding.where.rows) == (None, (300, 310, 999))
    assert finding.message == "Training data: 3 values of NaN or Inf in the input (rows 300, 310, 999)."
    (finding,) = DataChecks().look_at([(bad[i : i + 50], Y[i : i + 50]) for i in range(0, 500, 50)])
    assert (finding.where.batch, finding.where.rows) == (6, (0, 10))
    assert finding.message == "Batch 6: 2 values of NaN or Inf in the input (rows 0, 10)."
    assert str(finding.where) == "input at batch 6 (rows 0, 10)"


def test_every_row_of_arrays_is_looked_at_for_values_that_are_not_finite() -> None:
    large = np.zeros((300_000, 20), "float32") + X[0, 0]
    large[:, 1] = np.arange(300_000)
    large[299_999, 3] = np.inf
    (finding,) = DataChecks(ignore=["data.constant_feature"]).look_at(large)
    assert finding.where.rows == (299_999,)


def test_slow_batches_are_not_waited_for_beyond_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 1))
    monkeypatch.setattr("failguard.core.data_checks.perf_counter", lambda: float(next(clock)))
    read = []

    class Slow(list):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            for batch in super().__iter__():
                read.append(1)
                yield batch

    DataChecks(seconds=5.0).look_at(Slow([(X[:50], Y[:50])] * 16))
    assert 2 <= len(read) <= 4


def test_labels_out_of_range_constants_and_copies() -> None:
    (finding,) = DataChecks(raises=["data.labels"]).look_at(X, Y + 1, classes=3)
    assert finding.severity == "error"
    assert "labels reach from 1 to 3, but the model has 3 outputs, for 0 to 2" in finding.message
    assert codes(X, np.where(Y == 0, -100, Y), classes=3) == []  # -100: ignored by losses
    assert codes(np.zeros((64, 8, 8)), Y[:64]) == ["data.constant_feature"]
    a, b, c = ((X[i : i + 32], Y[i : i + 32]) for i in (0, 32, 64))
    assert codes([a, b, a, c]) == ["data.repeated_batch"]
    assert codes([a, b, a, b, a, b]) == []  # the same few again
    assert codes([({"ids": x, "mask": np.ones((32, 6))}, y) for x, y in (a, b, c)]) == []
    rare = np.r_[np.zeros(990, int), np.ones(10, int)][R.permutation(1000)]
    assert codes([(X[i : i + 50], rare[i : i + 50]) for i in range(0, 1000, 50)]) == ["data.imbalance"]


def test_validation_rows_that_are_training_rows() -> None:
    assert codes(X[:600], Y[:600], validation=(X[600:], Y[600:])) == []
    (finding,) = DataChecks().look_at(X[:600], Y[:600], validation=(X[590:], Y[590:]))
    assert finding.code == "data.leakage"
    assert finding.message == "10 of 410 validation rows looked at are among 600 training rows."
    batches = [(X[i : i + 50], Y[i : i + 50]) for i in range(0, 800, 50)]
    assert codes(batches, validation=[(X[700:750], Y[700:750]), (X[900:], Y[900:])]) == ["data.leakage"]


def test_leaks_are_found_in_large_data_from_a_sample() -> None:
    large = R.integers(0, 2**31, size=(400_000, 4))
    validation = np.r_[large[:2_000], R.integers(0, 2**31, size=(6_000, 4))]
    (finding,) = DataChecks().look_at(large, validation=(validation, None))
    assert finding.evidence["share"] == pytest.approx(0.25, abs=0.05)
    assert "of all training rows that would be 2" in finding.message


@pytest.mark.parametrize(
    "x", [np.array(["a", "b"] * 50), [[1, 2], [3]], np.zeros((0, 4)), {"text": ["a"] * 9, "image": X}, [None], []]
)
def test_odd_batches_do_no_harm(x: Any) -> None:
    assert codes(x) == []
    assert codes(x, Y) == []


def test_what_cannot_be_looked_at_or_set_gets_a_clear_word() -> None:
    with pytest.raises(InputError, match="use it up"):
        DataChecks().look_at(iter([X]))
    with pytest.raises(InputError, match="holds no batches"):
        DataChecks().look_at(object())
    for wrong in ({"raises": ["data.label"]}, {"batches": 0}, {"seconds": 0}, {"seconds": True}):
        with pytest.raises(ConfigurationError):
            DataChecks(**wrong)


@pytest.mark.framework
def test_loaders_are_not_used_up_and_streams_stay() -> None:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    bad = X.copy()
    bad[:, 0] = np.inf
    loader = DataLoader(TensorDataset(torch.tensor(bad), torch.tensor(Y)), batch_size=50, shuffle=True)
    torch.manual_seed(3)
    plain = [batch[1].tolist() for batch in loader]
    torch.manual_seed(3)
    state = random.getstate(), np.random.get_state()[1].tolist()
    assert set(codes(loader, classes=3)) == {"data.non_finite"}
    assert [batch[1].tolist() for batch in loader] == plain
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state


@pytest.mark.framework
def test_datasets_of_tensorflow_and_keras() -> None:
    import keras
    import tensorflow as tf

    class Data(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 10

        def __getitem__(self, i: int) -> Any:
            return X[i * 50 : i * 50 + 50], Y[i * 50 : i * 50 + 50] + 7

    assert codes(Data(), classes=3) == ["data.labels"]
    dataset = tf.data.Dataset.from_tensor_slices((X, Y + 7)).shuffle(1_000, seed=1).batch(50)
    assert codes(dataset, classes=3) == ["data.labels"]
    with pytest.raises(InputError, match="RaggedTensor holds no batches"):
        codes(tf.ragged.constant([[1.0], [2.0, 3.0]]))
    assert codes(tf.data.Dataset.from_tensor_slices(["a", "b"]).batch(2)) == []
