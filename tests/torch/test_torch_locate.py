import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from failguard.core.finding import Finding, Severity, Where
from failguard.torch.locate import call_model, locate
from failguard.torch.protect import random_state, unchanged

pytestmark = pytest.mark.framework

X, Y = torch.rand(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])


def finding(code="loss.non_finite"):
    return Finding(code, Severity.ERROR, step=7, epoch=0, message="")


class Log(nn.Module):
    def forward(self, x):
        return torch.log(x - 10)


class Inside(nn.Module):
    """Bad values come from code between two modules."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 3)

    def forward(self, x):
        return self.second(torch.sqrt(-self.first(x).abs() - 1))


def look(model, batch=(X, Y), code="loss.non_finite", **kwargs):
    return locate(finding(code), model, batch, run_again=lambda: call_model(model, batch), **kwargs)


def test_a_bad_batch_explains_everything():
    hurt = X.clone()
    hurt[2, 0] = math.nan
    assert look(nn.Linear(4, 3), (hurt, Y)) == Where(None, "input", 7, (2,))
    assert look(nn.Linear(4, 3), (X, torch.full((6,), math.inf))) == Where(None, "target", 7, (0, 1, 2, 3, 4))


def test_bad_weights_come_before_their_outputs():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    model[1].bias.data[0] = math.nan
    assert look(model) == Where("1", "weight", 7)
    assert look(model, code="weights.non_finite") == Where("1", "weight", 7)


def test_the_first_module_with_a_bad_output_is_named():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), Log()), nn.Linear(4, 3))
    assert look(model) == Where("1.1", "output", 7)


def test_code_between_modules_is_put_down_to_the_module_around_it():
    assert look(nn.Sequential(nn.Linear(4, 4), Inside())) == Where("1", "output", 7)
    assert look(Inside()) == Where("Inside", "output", 7)


def test_a_loss_module_is_told_from_the_model():
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.criterion = nn.Linear(4, 3), nn.NLLLoss(weight=torch.zeros(3))

        def forward(self, x):
            return self.criterion(F.log_softmax(self.net(x), 1), Y)

    assert look(WithLoss()) == Where("criterion", "loss", 7)


def test_a_fine_forward_pass_leaves_the_loss():
    assert look(nn.Linear(4, 3)) == Where(None, "loss", 7)


def test_of_bad_gradients_the_last_in_forward_order_is_the_origin():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.late, self.early, self.middle = nn.Linear(4, 3), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.late(self.middle(self.early(x)))

    model = Backwards()
    model(X).sum().backward()
    model.early.weight.grad[0, 0] = math.nan
    model.middle.bias.grad[0] = math.nan
    assert look(model, code="gradient.non_finite") == Where("middle", "gradient", 7)


def test_without_a_batch_weights_and_gradients_are_still_looked_at():
    model = nn.Linear(4, 3)
    model(X).sum().backward()
    model.weight.grad[0, 0] = math.inf
    assert locate(finding("gradient.non_finite"), model) == Where("weight", "gradient", 7)
    assert locate(finding("weights.non_finite"), model) is None


def test_a_model_that_cannot_be_called_that_way_does_no_harm():
    class Picky(nn.Module):
        def forward(self, *, image):
            return image

    assert look(Picky()) == Where(None, "loss", 7)


@pytest.mark.parametrize("batch", [{"input": X}, X, (X,), (X, Y)])
def test_models_are_called_by_the_usual_conventions(batch):
    assert call_model(nn.Linear(4, 3), batch).shape == (6, 3)


def test_looking_again_leaves_everything_as_it_was():
    class Stateful(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))
            self.calls, self.outputs, self.total, self.seen = 0, [], torch.zeros(()), {}

        def forward(self, x):
            self.calls += 1
            self.total += x.sum()
            self.extra = 1
            y = self.net(x)
            self.outputs.append(y)
            self.seen["last"] = y
            return y

    model = Stateful()
    model(X).sum().backward()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    gradients = [p.grad for p in model.parameters()]
    outputs, total = list(model.outputs), model.total.clone()
    del model.extra
    state = random_state()
    look(model, random_state=None)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is g for p, g in zip(model.parameters(), gradients, strict=True))
    assert model.calls == 1
    assert model.outputs == outputs
    assert torch.equal(model.total, total)
    assert not hasattr(model, "extra")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_the_random_stream_starts_where_the_batch_did():
    model = nn.Dropout(0.5)
    state = random_state()
    first = model(X)
    with unchanged(model, state):
        assert torch.equal(model(X), first)


def test_hooks_reach_into_compiled_models():
    model = nn.Sequential(nn.Linear(4, 4), Log())
    compiled = torch.compile(model, backend="eager")
    compiled(X)
    assert look(compiled) == Where("1", "output", 7)
