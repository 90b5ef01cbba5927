"""What is read from the graph of a loss, from the setup of a run, and from inside a model."""

from __future__ import annotations

import copy
import math

import pytest

torch = pytest.importorskip("torch")

from failguard.core.facts import SetupFacts  # noqa: E402
from failguard.torch import FailGuard  # noqa: E402
from failguard.torch.internals import InsideWatch, layers_of  # noqa: E402
from failguard.torch.loss_graph import read_loss_graph  # noqa: E402
from failguard.torch.predictions import read_predictions  # noqa: E402
from failguard.torch.setup import SetupWatch  # noqa: E402

nn, F = torch.nn, torch.nn.functional
pytestmark = pytest.mark.framework

X = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(16) % 3
VALUES = torch.linspace(-2.0, 2.0, 16)


def net(*last, width=16, out=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, out), *last)


def graph(loss, model=None):
    names = {id(p): layer.name for layer in layers_of(model) for p in layer.parameters} if model is not None else {}
    return read_loss_graph(loss, names)


@pytest.mark.parametrize(
    ("loss", "name", "takes", "activation"),
    [
        (lambda: F.cross_entropy(net()(X), CLASSES), "cross_entropy", "logits", "linear"),
        (lambda: F.cross_entropy(net(nn.Softmax(1))(X), CLASSES), "cross_entropy", "logits", "softmax"),
        (lambda: F.cross_entropy(net(nn.ReLU())(X), CLASSES), "cross_entropy", "logits", "relu"),
        (lambda: F.nll_loss(net()(X), CLASSES), "nll_loss", "log_probabilities", "linear"),
        (
            lambda: F.binary_cross_entropy_with_logits(net(nn.Sigmoid(), out=1)(X)[:, 0], (VALUES > 0).float()),
            "binary_cross_entropy_with_logits",
            "logits",
            "sigmoid",
        ),
        (lambda: F.mse_loss(net(nn.Tanh(), out=1)(X).squeeze(1), VALUES), "mse_loss", "values", "tanh"),
        (lambda: (net(out=1)(X).squeeze(1) - VALUES).pow(2).mean(), "mse_loss", "values", "linear"),
        (lambda: (net(out=1)(X).squeeze(1) - VALUES).abs().mean(), "l1_loss", "values", "linear"),
    ],
)
def test_how_output_and_loss_meet(loss, name, takes, activation):
    found = graph(loss())
    assert (found.name, found.output.loss_takes, found.output.activation) == (name, takes, activation)
    assert not found.output.is_broadcast


def test_the_axis_of_a_softmax():
    wrong = graph(F.nll_loss(net(nn.LogSoftmax(0))(X), CLASSES))
    assert wrong.output.activation_over_samples
    right = graph(F.nll_loss(net(nn.LogSoftmax(1))(X), CLASSES))
    assert not right.output.activation_over_samples
    for dim in (0, 1):  # kept above 0 for the logarithm
        p = net(nn.Softmax(dim))(X)
        for kept in (p + 1e-9, p.clamp(min=1e-9), p.clamp(1e-9, 1.0)):
            output = graph(F.nll_loss(torch.log(kept), CLASSES)).output
            assert (output.activation, output.activation_over_samples) == ("log_softmax", dim == 0)
    one = graph(F.mse_loss(net(nn.Softmax(1), out=1)(X).squeeze(1), VALUES))
    assert one.output.activation_units == 1


def test_the_class_that_a_loss_leaves_out():
    assert graph(F.cross_entropy(net()(X), CLASSES)).output.ignored_class is None
    assert graph(F.cross_entropy(net()(X), CLASSES, ignore_index=2)).output.ignored_class == 2


SHARES = torch.softmax(torch.randn(16, 3, generator=torch.Generator().manual_seed(1)), 1)


@pytest.mark.parametrize(
    ("loss", "twice"),
    [
        (lambda: F.binary_cross_entropy(torch.sigmoid(net(nn.Sigmoid(), out=1)(X))[:, 0], (VALUES > 0).float()), True),
        (lambda: F.binary_cross_entropy(torch.sigmoid(net(nn.Sigmoid(), out=1)(X)[:, 0]), (VALUES > 0).float()), True),
        (lambda: F.nll_loss(torch.log(torch.softmax(net(nn.Softmax(1))(X), 1)), CLASSES), True),
        (lambda: F.nll_loss(torch.log(torch.softmax(net()(X), 1)), CLASSES), False),
        (lambda: F.binary_cross_entropy(torch.sigmoid(net(out=1)(X)[:, 0]), (VALUES > 0).float()), False),
        # Hidden sigmoids, with weights between them and the last one.
        (lambda: F.mse_loss(nn.Sequential(nn.Linear(8, 8), nn.Sigmoid(), nn.Linear(8, 1), nn.Sigmoid())(X), X), False),
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_what_is_squashed_twice(loss, twice):
    assert graph(loss()).output.is_squashed_twice is twice


@pytest.mark.parametrize("reduction", ["batchmean", "sum"])
def test_a_divergence_of_probabilities(reduction):
    wrong = graph(F.kl_div(net(nn.Softmax(1))(X), SHARES, reduction=reduction))
    assert (wrong.name, wrong.output.loss_takes, wrong.output.activation) == ("kl_div", "log_probabilities", "softmax")
    right = graph(F.kl_div(net(nn.LogSoftmax(1))(X), SHARES, reduction=reduction))
    assert right.output.activation != "softmax"


def test_other_differences_of_products_are_no_divergence():
    hits = F.one_hot(CLASSES, 3).float()
    assert graph((hits - hits * net(nn.Softmax(1))(X)).sum(1).mean()).name is None
    assert graph(-(hits * net(nn.Softmax(1))(X)).sum(1).mean()).name is None


def test_whether_a_loss_leads_to_parameters():
    model = net()
    loss = F.cross_entropy(model(X), CLASSES)
    assert graph(loss, model).reaches_parameters is True
    assert graph(torch.tensor(loss.item(), requires_grad=True), model).reaches_parameters is False
    assert graph(loss.detach(), model).reaches_parameters is None  # it may be a copy for the guard


@pytest.mark.parametrize(
    ("layers", "idle"),
    [
        ([nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 3)], 2),
        ([nn.Linear(8, 16), nn.Dropout(0.1), nn.Linear(16, 3)], 1),
        ([nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)], 0),
        ([nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)], 0),
        ([nn.Linear(8, 2), nn.Linear(2, 3)], 0),  # a bottleneck
        ([nn.Linear(8, 3)], 0),
    ],
)
def test_layers_that_are_one_linear_map(layers, idle):
    model = nn.Sequential(*layers)
    assert len(graph(F.cross_entropy(model(X), CLASSES), model).idle_layers) == idle


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("loss", [F.mse_loss, lambda a, b: (a - b).pow(2).mean()], ids=["function", "by hand"])
def test_shapes_that_broadcast(loss):
    assert graph(loss(net(out=1)(X), VALUES)).output.is_broadcast
    assert not graph(loss(net(out=1)(X), VALUES[:, None])).output.is_broadcast


@pytest.mark.parametrize(
    ("loss", "plain", "summed"),
    [
        (lambda p: F.mse_loss(p, VALUES), True, False),
        (lambda p: F.mse_loss(p, VALUES, reduction="sum"), False, True),
        (lambda p: F.mse_loss(p, VALUES) + 0.1 * p.abs().mean(), False, False),
        (lambda p: 3.0 * F.mse_loss(p, VALUES), False, False),
    ],
)
def test_what_may_be_compared_with_the_targets_spread(loss, plain, summed):
    found = graph(loss(net(out=1)(X).squeeze(1)))
    assert (found.is_plain, found.output.loss_is_summed) == (plain, summed)


@pytest.mark.parametrize("loss", [None, 1.0, torch.tensor(1.0), torch.tensor(1.0, requires_grad=True)])
def test_without_a_graph_nothing_is_claimed(loss):
    found = graph(loss)
    assert found.name is None
    assert found.output.activation is None


def test_layers_know_their_activations():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.norm, self.last = nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)

        def forward(self, x):
            return self.last(torch.relu(self.norm(self.first(x))))

    model = Functional()
    assert graph(F.cross_entropy(model(X), CLASSES), model).activations == {"norm": "relu"}
    model = net()
    assert graph(F.cross_entropy(model(X), CLASSES), model).activations == {"0": "relu"}


def train(model, optimizer, steps=30, *, clear=True, every=1, before=lambda: None):
    watch = SetupWatch(model, SetupFacts())
    for step in range(steps):
        before()
        F.cross_entropy(model(X), CLASSES).backward()
        watch.see_update([optimizer], next(p for p in model.parameters() if p.grad is not None))
        if step % every == every - 1:
            optimizer.step()
            if clear:
                optimizer.zero_grad()
    watch.finish()
    return watch._facts


@pytest.mark.parametrize(("clear", "every", "carried"), [(True, 1, 0), (False, 1, 8), (True, 4, 0)])
def test_gradients_that_carry_over_are_told_from_accumulation(clear, every, carried):
    model = net()
    facts = train(model, torch.optim.SGD(model.parameters(), 0.01), 40, clear=clear, every=every)
    assert facts.carry_checks > 0
    assert facts.carried_over == carried


def test_gradients_set_to_zero_in_place_do_not_carry_over():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    facts = train(model, optimizer, clear=False, before=lambda: optimizer.zero_grad(set_to_none=False))
    assert (facts.carried_over, facts.carry_checks > 0) == (0, True)


def test_parameters_without_gradient_or_optimizer():
    model = net()
    facts = train(model, torch.optim.SGD(model[0].parameters(), 0.01))
    assert facts.left_out == ("2.weight", "2.bias")  # they get gradients; an average of weights would not
    assert facts.left_out_last
    model = net()
    model.unused = nn.Linear(4, 4)
    del model.unused  # a name only
    spare = nn.Linear(8, 100)
    facts = train(model, torch.optim.SGD([*model.parameters(), *spare.parameters()], 0.01))
    assert len(facts.without_gradient) == 2
    assert facts.without_gradient_share > 0.5
    assert facts.left_out == ()


def adversaries(detach, *, clear_early=False, rests=False):
    """Facts of a generator and a critic, each with an optimizer of its own."""
    made, critic = nn.Linear(2, 3), nn.Linear(3, 1)
    of_made, of_critic = torch.optim.SGD(made.parameters(), 0.01), torch.optim.SGD(critic.parameters(), 0.01)
    watch = SetupWatch(nn.ModuleList([made, critic]), SetupFacts(), [of_made, of_critic])
    for _ in range(40):
        of_made.zero_grad()
        of_critic.zero_grad()
        fake = made(torch.randn(4, 2))
        if rests:
            fake = fake.detach()
        critic(fake.detach() if detach else fake).mean().backward()
        if clear_early:  # its step is made and its gradients are gone before we look
            of_made.step()
            of_made.zero_grad()
        watch.see_update([of_made, of_critic], critic.weight)
        of_critic.step()
        if not rests and not clear_early:
            of_made.step()
    watch.finish()
    assert not of_made._optimizer_step_pre_hooks
    return watch._facts


def test_an_optimizer_beside_others_that_steps_without_gradients():
    facts = adversaries(detach=True)
    assert len(facts.without_gradient) == 2
    assert facts.gradient_checks >= 30
    assert adversaries(detach=False).without_gradient == ()
    assert adversaries(detach=False, clear_early=True).without_gradient == ()
    assert adversaries(detach=True, rests=True).without_gradient == ()


def test_updates_without_any_gradient():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    watch = SetupWatch(model, SetupFacts())
    for _ in range(5):
        F.cross_entropy(model(X), CLASSES).backward()
        optimizer.zero_grad()
        watch.see_update([optimizer], None)
    watch.finish()
    facts = watch._facts
    assert (facts.gradient_checks, facts.updates_without_gradient, facts.maximizes) == (0, 5, False)
    facts = train(model, torch.optim.SGD(model.parameters(), 0.01, maximize=True))
    assert (facts.updates_without_gradient, facts.maximizes) == (0, True)


def test_an_evaluation_in_eval_mode_is_right():
    model = net(nn.Dropout(0.5))
    watch = SetupWatch(model, SetupFacts())
    watch.see_modes()
    model(X)
    with torch.no_grad():
        model.eval()(X)
    model.train()
    watch.see_modes()
    assert not watch._facts.evaluates_in_train_mode


def test_an_evaluation_in_train_mode_is_not():
    model = net(nn.Dropout(0.5))
    watch = SetupWatch(model, SetupFacts())
    watch.see_modes()
    for _ in range(3):
        model(X)
    with torch.no_grad():
        model(X)
    watch.finish()
    assert watch._facts.evaluates_in_train_mode
    assert not watch._facts.trains_in_eval_mode


def test_new_statistics_beside_an_evaluation_in_eval_mode_are_no_evaluation():
    model = net(nn.Dropout(0.5))
    watch = SetupWatch(model, SetupFacts())
    watch.see_modes()
    for _ in range(3):
        model(X)
    with torch.no_grad():
        model(X)
        model.eval()(X)
    model.train()
    watch.finish()
    assert not watch._facts.evaluates_in_train_mode


def test_a_look_at_training_batches_without_gradients_is_no_evaluation():
    model = net(nn.Dropout(0.5))
    watch = SetupWatch(model, SetupFacts())
    watch.see_modes()
    for _ in range(3):
        model(X)
        with torch.no_grad():
            model(X)
    watch.finish()
    assert not watch._facts.evaluates_in_train_mode


def test_training_in_eval_mode():
    model = net(nn.Dropout(0.5))
    watch = SetupWatch(model, SetupFacts())
    model.eval()
    watch.see_modes()
    assert watch._facts.trains_in_eval_mode
    watch.finish()
    assert not any(m._forward_pre_hooks for m in model.modules())


def test_one_sample_around_an_update():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    inside = InsideWatch(model)
    F.cross_entropy(model(X), CLASSES).backward()
    gradient, weight = model[0].weight.grad.clone(), model[0].weight.detach().clone()
    inside.begin(3, 3, [optimizer], 1.0)
    optimizer.step()
    assert inside.end() is None
    reading = inside.end()
    layer = reading.layers[0]
    assert (layer.name, layer.kind, layer.parameters) == ("0", "Linear", 144)
    assert layer.weight_norm == pytest.approx(float(weight.norm()), rel=1e-5)
    assert layer.update_norm == pytest.approx(0.1 * float(gradient.norm()), rel=1e-3)
    assert reading.learning_rate == 0.1
    assert not inside.is_open


def test_an_update_that_was_not_made_is_waited_for():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    inside = InsideWatch(model)
    F.cross_entropy(model(X), CLASSES).backward()
    inside.begin(0, 0, [optimizer], 1.0)
    assert [inside.end() for _ in range(5)] == [None] * 5
    optimizer.step()
    assert inside.end() is None
    assert inside.end().layers[0].update_norm > 0


def test_dead_units_are_counted_over_a_window():
    model = net()
    with torch.no_grad():
        model[0].bias[:12] = -1e3
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    inside = InsideWatch(model)
    inside.activations = {"0": "relu"}
    F.cross_entropy(model(X), CLASSES).backward()
    inside.begin(0, 0, [optimizer], 1.0)
    for _ in range(8):
        model(X)
    optimizer.step()
    inside.end()
    reading = inside.end().activations[0]
    assert (reading.units, reading.batches, reading.samples) == (16, 8, 128)
    assert reading.dead_units >= 12
    inside.close()
    assert not any(m._forward_hooks for m in model.modules())


def test_predictions():
    one_class = read_predictions(torch.tensor([[9.0, 0.0]]).repeat(16, 1), CLASSES % 2, "cross_entropy")
    assert (one_class.predicted_classes, one_class.top_share, one_class.target_top_share) == (1, 1.0, 0.6875)
    constant = read_predictions(torch.full((16,), 3.0), VALUES, "mse_loss")
    assert constant.spread == 0.0
    assert constant.target_spread == pytest.approx(float(VALUES.std(correction=0)))
    assert read_predictions(torch.randn(4, 5, 6), torch.randn(7), "mse_loss") is None


def test_looking_inside_changes_nothing_and_leaves_nothing():
    def run(guarded):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Linear(8, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(16, 16),
            nn.Tanh(),
            nn.Linear(16, 3),
        )
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        guard = FailGuard(model, optimizer, sinks=[], resources=False) if guarded else None
        for _ in range(2):
            for _ in range(60):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(X), CLASSES)
                loss.backward()
                if guard is None or guard.step(loss=loss, batch=(X, CLASSES)):
                    optimizer.step()
            if guard is not None:
                guard.end_epoch()
        inside = []
        if guard is not None:
            inside = list(guard._guard.history.internals)
            guard.close()
            assert guard.report.part_errors == []
        return copy.deepcopy(model.state_dict()), optimizer.state_dict(), torch.get_rng_state(), model, inside

    plain, watched = run(False), run(True)
    assert len(watched[4]) >= 3
    assert any(r.activations for r in watched[4])
    assert any(layer.update_ratio for r in watched[4] for layer in r.layers)
    assert any(r.predictions for r in watched[4])
    for name, value in plain[0].items():
        assert torch.equal(value, watched[0][name]), name
    for key, state in plain[1]["state"].items():
        assert all(torch.equal(v, watched[1]["state"][key][k]) for k, v in state.items())
    assert torch.equal(plain[2], watched[2])
    for module in watched[3].modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert all(math.isfinite(layer.gradient_norm) for r in watched[4] for layer in r.layers)


class Hiding(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = [nn.Linear(8, 8), nn.Linear(8, 8)]
        self.scale = torch.ones(8, requires_grad=True)
        self.teacher = (nn.Linear(8, 3),)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        for block in self.blocks:
            x = torch.relu(block(x))
        with torch.no_grad():
            self.teacher[0](x)
        return self.head(x * self.scale)


def hidden_after(model, optimizers, shown):
    watch = SetupWatch(model, SetupFacts())
    for _ in range(3):
        for o in optimizers:
            o.zero_grad()
        F.cross_entropy(model(X), torch.arange(16) % 3).backward()
        watch.see_update(shown, model.head.weight)
        for o in optimizers:
            o.step()
    return watch._facts.hidden


def test_parameters_in_plain_containers_are_named():
    model = Hiding()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    names = ("blocks[0].weight", "blocks[0].bias", "blocks[1].weight", "blocks[1].bias", "scale")
    assert hidden_after(model, [optimizer], [optimizer]) == names


def test_hidden_parameters_that_an_optimizer_has_are_in_order():
    model = Hiding()
    own = [p for block in model.blocks for p in block.parameters()] + [model.scale]
    optimizers = [torch.optim.SGD(model.parameters(), 0.1), torch.optim.SGD(own, 0.1)]
    assert hidden_after(model, optimizers, optimizers) == ()
    assert hidden_after(model, optimizers, optimizers[:1]) == ()  # the second one is not shown, but moves them
