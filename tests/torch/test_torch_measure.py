import math

import pytest
import torch
from torch import nn

from failguard.errors import InputError
from failguard.torch.measure import Sentinel, global_norm, gradients, loss_value

pytestmark = pytest.mark.framework


@pytest.mark.parametrize(
    "loss",
    [1.5, torch.tensor(1.5), torch.tensor([1.5]), torch.tensor([[1.5]]), torch.tensor(1.5, requires_grad=True) * 1],
    ids=["float", "0-d", "1-d", "2-d", "graph"],
)
def test_a_loss_of_one_element_is_a_number(loss):
    assert loss_value(loss) == 1.5


def test_integers_and_bad_values_are_numbers_too():
    assert loss_value(2) == 2.0
    assert math.isnan(loss_value(torch.tensor(math.nan)))


@pytest.mark.parametrize(
    ("loss", "named"),
    [
        (torch.ones(3), "shape (3,)"),
        (None, "None"),
        ("0.5", "'0.5'"),
        (torch.tensor(1j), "complex64"),
        (1j, "complex"),
        ({"loss": 1.0}, "dict"),
    ],
)
def test_anything_else_is_named_with_a_remedy(loss, named):
    with pytest.raises(InputError, match=r"Reduce it first") as error:
        loss_value(loss)
    assert named in str(error.value)


def test_the_norm_is_the_one_over_all_elements():
    tensors = [torch.randn(7, 5), torch.randn(3), torch.randn(2, 2, 2)]
    expected = torch.linalg.vector_norm(torch.cat([t.flatten() for t in tensors]))
    assert global_norm(tensors) == pytest.approx(float(expected), rel=1e-6)
    assert global_norm([]) == 0.0


def test_types_may_be_mixed():
    tensors = [torch.full((4,), 3.0, dtype=torch.float64), torch.full((4,), 4.0, dtype=torch.bfloat16)]
    assert global_norm(tensors) == pytest.approx(10.0)


@pytest.mark.parametrize(("value", "dtype"), [(1e30, torch.float32), (6e4, torch.float16)])
def test_an_overflow_of_the_norm_is_not_a_bad_gradient(value, dtype):
    norm = global_norm([torch.full((9,), value, dtype=dtype)])
    assert norm == pytest.approx(3 * value, rel=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_bad_element_shows(bad):
    tensor = torch.zeros(50)
    tensor[17] = bad
    assert not math.isfinite(global_norm([torch.ones(3), tensor]))


def test_sparse_gradients_are_taken_by_their_values():
    table = nn.Embedding(10, 2, sparse=True)
    table(torch.tensor([1, 1, 4])).sum().backward()
    (values,) = gradients(table.parameters())
    assert global_norm([values]) == pytest.approx(math.sqrt(2 * 4 + 2 * 1))


def two_layers():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    model(torch.randn(5, 3)).sum().backward()
    return model


def test_the_sentinel_is_the_smallest_parameter_of_the_first_layer():
    model = two_layers()
    sentinel = Sentinel(model, model.parameters())
    assert sentinel.parameter is model[0].bias
    assert sentinel.value() == 0.0


def test_the_sentinel_skips_frozen_foreign_and_large_layers():
    model = two_layers()
    model[0].requires_grad_(False)
    model.zero_grad()
    model(torch.randn(5, 3)).sum().backward()
    assert Sentinel(model, model.parameters()).parameter is model[2].bias
    assert Sentinel(model, [model[2].weight]).parameter is model[2].weight
    large = nn.Sequential(nn.Embedding(20_000, 1), nn.Linear(1, 1))
    large(torch.tensor([1])).sum().backward()
    assert Sentinel(large, large.parameters()).parameter is large[1].weight


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_sentinel_tells_of_bad_values_but_not_of_large_ones(bad):
    model = two_layers()
    sentinel = Sentinel(model, model.parameters())
    model[0].bias.grad.fill_(3e38)
    assert sentinel.value() == 0.0
    model[0].bias.grad[1] = bad
    assert not math.isfinite(sentinel.value())
    model[0].bias.grad = None
    assert sentinel.value() == 0.0
