import pytest
import torch
import torch.nn.functional as F
from torch import nn

from failguard.torch.graph import read_graph

pytestmark = pytest.mark.framework

X = torch.randn(5, 4)
Y = torch.tensor([0, 1, 2, 0, 1])


def logits():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))(X)


CLASSES = ("class_prior", "output_width")


@pytest.mark.parametrize(
    ("loss", "name", "trivial_from"),
    [
        (lambda: F.cross_entropy(logits(), Y), "cross_entropy", CLASSES),
        (lambda: F.cross_entropy(logits(), Y) / 4, "cross_entropy", CLASSES),
        (lambda: F.cross_entropy(logits(), Y, reduction="none").mean(), "cross_entropy", CLASSES),
        (lambda: F.nll_loss(torch.log(F.softmax(logits(), 1)), Y), "nll_loss", CLASSES),
        (
            lambda: F.binary_cross_entropy_with_logits(logits()[:, 0], Y.clamp(max=1).float()),
            "binary_cross_entropy_with_logits",
            ("class_prior",),
        ),
        # Not the plain mean, or not alone: no baseline is known.
        (lambda: F.cross_entropy(logits(), Y, reduction="sum"), "cross_entropy", ()),
        (lambda: F.cross_entropy(logits(), Y, weight=torch.tensor([1.0, 2.0, 3.0])), "cross_entropy", ()),
        (lambda: 10 * F.cross_entropy(logits(), Y), "cross_entropy", ()),
        (lambda: (F.cross_entropy(logits(), Y, reduction="none") * (1.0 + Y)).mean(), "cross_entropy", ()),
        (lambda: F.cross_entropy(logits(), Y, label_smoothing=0.1), "cross_entropy", ()),
        (lambda: F.cross_entropy(logits(), Y) + logits().pow(2).mean(), "cross_entropy", ()),
        (lambda: F.mse_loss(logits(), torch.zeros(5, 3)), "mse_loss", ()),
        (lambda: logits().abs().sum(), None, ()),
    ],
)
def test_losses_are_recognised(loss, name, trivial_from):
    facts = read_graph(loss())
    assert facts.loss_name == name
    assert facts.trivial_from == trivial_from


@pytest.mark.parametrize(
    "loss",
    [
        lambda: F.cross_entropy(logits(), Y, weight=torch.tensor([1.0, 2.0, 3.0])),
        lambda: F.binary_cross_entropy_with_logits(
            logits()[:, 0], Y.clamp(max=1).float(), pos_weight=torch.tensor(19.0)
        ),
    ],
)
def test_class_weights_are_seen_after_backward_has_freed_them(loss):
    value = loss()
    value.backward()
    assert read_graph(value).trivial_from == ()


def test_functional_activations_and_normalization_are_found_in_order():
    hidden = torch.sigmoid(nn.Linear(4, 4)(F.layer_norm(torch.tanh(nn.Linear(4, 4)(X)), (4,))))
    facts = read_graph(F.mse_loss(hidden, torch.zeros(5, 4)))
    assert facts.activations == ("tanh", "sigmoid")
    assert facts.normalization


def test_the_softmax_of_the_loss_is_no_activation():
    assert read_graph(F.cross_entropy(logits(), Y)).activations == ("relu",)


@pytest.mark.parametrize("loss", [None, 0.5, torch.tensor(1.0)])
def test_without_a_graph_nothing_is_known(loss):
    assert read_graph(loss).loss_name is None


def test_reading_leaves_the_graph_as_it_was():
    weight = torch.ones(3, requires_grad=True)
    loss = F.mse_loss(weight * 2, torch.zeros(3))
    read_graph(loss)
    loss.backward()
    assert torch.equal(weight.grad, torch.full((3,), 8 / 3))


@pytest.mark.parametrize(
    ("of", "divisor"),
    [
        (lambda loss: loss / 8, 8.0),
        (lambda loss: loss / torch.tensor(4.0) / 2, 8.0),
        (lambda loss: loss.mean(), 1.0),
        (lambda loss: loss, 1.0),
    ],
)
def test_what_a_loss_is_divided_by_is_read(of, divisor):
    graph = read_graph(of(F.cross_entropy(torch.randn(4, 3, requires_grad=True), torch.tensor([0, 1, 2, 0]))))
    assert graph.trivial_from == ("class_prior", "output_width")
    assert graph.divisor == divisor


def test_a_loss_divided_by_what_cannot_be_read_has_no_baseline():
    loss = F.cross_entropy(torch.randn(4, 3, requires_grad=True), torch.tensor([0, 1, 2, 0]), reduction="none")
    assert read_graph((loss / torch.tensor([1.0, 2.0, 3.0, 4.0])).mean()).trivial_from == ()
