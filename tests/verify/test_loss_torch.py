"""The loss of a loop is found out by its value, or said not to be known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from failguard.errors import InputError  # noqa: E402
from failguard.verify.loss_torch import find_loss, loss_of_function, loss_of_module  # noqa: E402

nn, F = torch.nn, torch.nn.functional
X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(12) % 3
ZERO_ONE = (torch.arange(12) % 2).float()


def net(out: int, *last: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, out), *last)


@pytest.mark.parametrize(
    ("model", "target", "loss"),
    [
        (net(3), CLASSES, F.cross_entropy),
        (net(3), CLASSES, lambda o, t: F.cross_entropy(o, t, reduction="sum")),
        (net(3), CLASSES.int(), lambda o, t: F.cross_entropy(o, t.long())),
        (net(3, nn.LogSoftmax(1)), CLASSES, F.nll_loss),
        (net(1), X.sum(1), lambda o, t: F.mse_loss(o.squeeze(-1), t)),
        (net(1), X.sum(1), lambda o, t: F.l1_loss(o, t.unsqueeze(-1))),
        (net(1), ZERO_ONE.long(), lambda o, t: F.binary_cross_entropy_with_logits(o.squeeze(-1), t.float())),
        (net(1, nn.Sigmoid()), ZERO_ONE, lambda o, t: F.binary_cross_entropy(o.squeeze(-1), t)),
    ],
)
def test_usual_losses_are_found(model: nn.Module, target: torch.Tensor, loss) -> None:
    recorded = float(loss(model(X), target).detach())
    found = find_loss(model, (X, target), recorded, None)
    other = (X[:5] + 1.0, target[:5])
    assert float(found(model, other, 0).detach()) == pytest.approx(float(loss(model(other[0]), other[1]).detach()))


def test_a_model_that_gives_its_loss() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = net(3)

        def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> SimpleNamespace:
            logits = self.layer(inputs)
            return SimpleNamespace(loss=F.cross_entropy(logits, labels) + 1.0, logits=logits)

    model, batch = Own(), {"inputs": X, "labels": CLASSES}
    recorded = float(model(**batch).loss.detach())
    assert float(find_loss(model, batch, recorded, None)(model, batch, 0).detach()) == pytest.approx(recorded)


@pytest.mark.parametrize(
    ("recorded", "words"), [(123.0, "loss_fn="), (float("nan"), "not a finite number"), (None, "not a finite number")]
)
def test_a_loss_that_is_not_known(recorded: float | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        find_loss(net(3), (X, CLASSES), recorded, "cross_entropy")


def test_a_model_that_takes_more_than_a_batch() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
            return x

    with pytest.raises(InputError, match="cannot be called on a batch alone"):
        find_loss(Two(), (X, CLASSES), 1.0, None)


def test_functions_and_modules_of_the_user() -> None:
    model = net(3)
    with pytest.raises(InputError, match="float and no tensor"):
        loss_of_function(lambda m, b: 1.0)(model, (X, CLASSES), 0)
    assert loss_of_function(lambda m, b: m(b[0]).sum())(model, (X, CLASSES), 0).numel() == 1

    class Module(nn.Module):
        log: object
        result: object = None

        def training_step(self, batch: object) -> object:
            self.log("loss", 1.0)  # type: ignore[operator]
            return self.result

    module = Module()
    with pytest.raises(InputError, match="no loss"):
        loss_of_module(module, None, 0)
    module.result = {"loss": torch.ones(())}
    assert loss_of_module(module, None, 0) == 1.0
