"""Recorded batches, changed."""

from __future__ import annotations

from collections import namedtuple

import pytest

torch = pytest.importorskip("torch")

from failguard.verify.batch_torch import scale_of, scaled, to_device, without_bad_rows  # noqa: E402

Pair = namedtuple("Pair", "x y")


def test_inputs_are_scaled_for_each_feature_and_targets_stay() -> None:
    x = torch.randn(64, 3) * torch.tensor([1e4, 1.0, 0.0]) + 5.0
    y = torch.arange(64)
    for batches in ([(x[:32], y[:32]), (x[32:], y[32:])], [{"x": x[:32], "labels": y}, {"x": x[32:], "labels": y}]):
        scale = scale_of(batches, targets=False)
        assert scale is not None
        new = scaled(batches, scale, targets=False)
        together = torch.cat([b["x"] if isinstance(b, dict) else b[0] for b in new])
        assert together.mean(0).abs().max() < 1e-3
        assert together[:, :2].std(0) == pytest.approx(torch.ones(2), abs=1e-3)
        assert together[:, 2].abs().max() == 0.0  # a constant feature does not become NaN
        assert together.dtype is x.dtype
        assert (new[0]["labels"] if isinstance(new[0], dict) else new[0][1]) is (
            batches[0]["labels"] if isinstance(batches[0], dict) else batches[0][1]
        )


def test_targets_are_scaled_and_inputs_stay() -> None:
    batches = [Pair(torch.randn(8, 2), torch.randn(8) * 100 + 1e4)]
    scale = scale_of(batches, targets=True)
    assert scale is not None
    (new,) = scaled(batches, scale, targets=True)
    assert isinstance(new, Pair)
    assert new.x is batches[0].x
    assert float(new.y.mean()) == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize(
    "batches",
    [
        [(torch.arange(4), torch.arange(4))],
        [(torch.full((4, 2), float("nan")), torch.arange(4))],
        [(torch.randn(4, 2), 0), (torch.randn(4, 3), 0)],
        [object()],
    ],
    ids=["whole numbers", "NaN", "different widths", "no tensor"],
)
def test_what_cannot_be_scaled(batches: list) -> None:
    assert scale_of(batches, targets=False) is None


def test_bad_rows_are_left_out_of_inputs_and_targets_alike() -> None:
    x = torch.randn(16, 3)
    bad = x.clone()
    bad[3, 1], bad[5, 0], bad[7, 2] = float("nan"), float("inf"), 1e9
    worst = torch.full((16, 3), float("nan"))
    y = torch.arange(16)
    fine, some, none = without_bad_rows([(x, y), (bad, y), (worst, y)])
    assert fine[0] is x
    assert some[1].tolist() == [i for i in range(16) if i not in (3, 5, 7)]
    assert torch.isfinite(some[0]).all()
    assert none is None
    ids = (torch.arange(4), torch.arange(4))
    assert without_bad_rows([ids]) == [ids]


def test_batches_move_whatever_they_are() -> None:
    class Batch:
        def __init__(self, x: torch.Tensor) -> None:
            self.x = x

        def to(self, device: str) -> Batch:
            return Batch(self.x.to(device))

    assert to_device(Batch(torch.ones(2)), "cpu").x.tolist() == [1.0, 1.0]
    moved = to_device({"a": [torch.ones(1), "text"], "b": None}, "cpu")
    assert moved["a"][1] == "text"
    assert moved["b"] is None
