import pytest
import torch
from torch import nn

from failguard.torch.inspect import loss_module_name, model_facts, optimizer_facts, plain_values, settings_of, versions

pytestmark = pytest.mark.framework


def test_a_model_in_facts():
    model = nn.Sequential(
        nn.Linear(4, 8), nn.LayerNorm(8), nn.GELU(), nn.Dropout(0.1), nn.Dropout(0.3), nn.Linear(8, 3)
    )
    model[0].weight.requires_grad_(False)
    facts = model_facts(model)
    assert facts.name == "Sequential"
    assert facts.parameters == 4 * 8 + 8 + 16 + 8 * 3 + 3
    assert facts.trainable_parameters == facts.parameters - 32
    assert facts.layers == 3
    assert facts.dropout == 0.3
    assert facts.normalization
    assert facts.activations == ("GELU",)
    assert facts.output_width == 3


def test_a_bare_model_has_none_of_that():
    facts = model_facts(nn.Sequential(nn.LazyLinear(3)))
    assert facts.parameters == 0
    assert facts.dropout is None
    assert facts.normalization is False


def test_convolutions_give_a_width_too():
    assert model_facts(nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU())).output_width == 5


def test_an_optimizer_in_facts():
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=torch.tensor(0.5), momentum=0.9, weight_decay=0.01)
    facts = optimizer_facts([sgd], clipping="norm 1.0", schedule=None)
    assert (facts.name, facts.learning_rate, facts.momentum, facts.weight_decay) == ("SGD", 0.5, 0.9, 0.01)
    assert settings_of(facts) == {"optimizer": "SGD", "learning_rate": 0.5, "momentum": 0.9, "weight_decay": 0.01}
    adam = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=0.1)
    assert optimizer_facts([adam], clipping=None, schedule=None).momentum is None
    assert optimizer_facts([], clipping=None, schedule=None).name == ""


def test_the_rate_is_the_one_that_a_warm_up_leads_to():
    sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    torch.optim.lr_scheduler.LinearLR(sgd, start_factor=0.001)
    assert optimizer_facts([sgd], clipping=None, schedule="LinearLR").learning_rate == 0.5


def test_loss_modules_are_found():
    assert (
        loss_module_name(nn.ModuleDict({"net": nn.Linear(1, 1), "loss": nn.CrossEntropyLoss()})) == "CrossEntropyLoss"
    )
    assert loss_module_name(nn.Linear(1, 1)) is None


def test_hyperparameters_become_plain():
    values = {
        "lr": 0.1,
        "net": nn.Linear(1, 1),
        "sizes": (1, 2),
        "act": nn.ReLU,
        "deep": {"w": torch.tensor(2.0)},
        3: None,
    }
    plain = plain_values(values)
    assert plain["lr"] == 0.1
    assert plain["sizes"] == [1, 2]
    assert plain["act"] == "ReLU"
    assert plain["deep"] == {"w": 2.0}
    assert plain["3"] is None
    assert isinstance(plain["net"], str)


def test_only_installed_packages_have_versions():
    assert set(versions("no-such-package")) == {"torch"}
