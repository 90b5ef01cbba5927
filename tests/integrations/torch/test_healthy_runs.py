"""Trainings of many kinds in which nothing is wrong, and faults that look much alike: what is said of each."""

from __future__ import annotations

import pytest

from failguard.core.finding import Severity

torch = pytest.importorskip("torch")
F = torch.nn.functional

pytestmark = pytest.mark.framework


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def net(width=16, classes=3, **kinds):
    nn = torch.nn
    return nn.Sequential(nn.Linear(8, width), kinds.get("activation", nn.ReLU)(), nn.Linear(width, classes))


def samples(n=480, share=None, noise=0.3):
    """Inputs, and three classes that depend on them; or two with the second's share given."""
    x = torch.randn(n, 8)
    score = x[:, 0] + 0.5 * x[:, 1] + noise * torch.randn(n)
    cuts = [0.33, 0.67] if share is None else [1.0 - share]
    return x, torch.bucketize(score, torch.quantile(score, torch.tensor(cuts)))


def fit(kit, model, optimizer, data, *, loss=None, epochs=10, batch=16, scheduler=None, shuffle=True, validates=True):
    """Train with a guard on two thirds of the data, validate on the rest."""
    loss = loss or (lambda m, x, y: F.cross_entropy(m(x), y))
    x, y = data
    cut = 2 * len(x) // 3
    with kit.guard(model, optimizer) as guard:
        for _ in range(epochs):
            order = torch.randperm(cut) if shuffle else torch.arange(cut)
            for i in order.split(batch):
                optimizer.zero_grad()
                value = loss(model, x[i], y[i])
                value.backward()
                if guard.step(loss=value, batch=(x[i], y[i])):
                    optimizer.step()
                if scheduler is not None:
                    scheduler.step()
                if guard.should_stop:
                    return guard.report
            with torch.no_grad():
                guard.end_epoch(**({"val_loss": loss(model, x[cut:], y[cut:])} if validates else {}))
    return guard.report


def assert_silent(report):
    assert report.status == "completed"
    # What was seen inside a model is kept as info; nobody is alarmed by it.
    assert [f for f in report.findings if f.severity is not Severity.INFO] == []
    assert report.part_errors == []
    assert report.diagnosis.causes == ()


def test_class_weights_on_rare_classes(kit):
    weight = torch.tensor([1.0, 19.0])
    model = net(classes=2)
    report = fit(
        kit,
        model,
        torch.optim.Adam(model.parameters(), 3e-3),
        samples(n=300, share=0.05),
        loss=lambda m, x, y: F.cross_entropy(m(x), y, weight=weight),
        epochs=6,
    )
    assert_silent(report)


def test_rare_classes_that_are_hardly_predictable(kit):
    model = net(classes=2)
    data = samples(n=900, share=0.05, noise=1.0)
    assert_silent(fit(kit, model, torch.optim.Adam(model.parameters(), 1e-3), data, epochs=10))


def test_a_factor_before_the_loss(kit):
    model = net()
    report = fit(
        kit,
        model,
        torch.optim.SGD(model.parameters(), 5e-3),
        samples(noise=1.5),
        loss=lambda m, x, y: 3.0 * F.cross_entropy(m(x), y),
        epochs=20,
    )
    assert_silent(report)


def test_label_smoothing_and_a_penalty(kit):
    model = net()

    def loss(m, x, y):
        return F.cross_entropy(m(x), y, label_smoothing=0.6) + 0.01 * sum(p.pow(2).sum() for p in m.parameters())

    assert_silent(fit(kit, model, torch.optim.Adam(model.parameters(), 3e-3), samples(), loss=loss))


def test_sorted_labels_are_named_and_give_no_false_baseline(kit):
    x, y = samples()
    order = y[:320].argsort()
    x[:320], y[:320] = x[order], y[order]
    model = net()
    report = fit(kit, model, torch.optim.Adam(model.parameters(), 1e-4), (x, y), epochs=10, shuffle=False)
    assert [f.code for f in report.findings if f.severity is not Severity.INFO] == ["data.unshuffled"]
    assert report.diagnosis.causes[0].code == "unshuffled_data"
    assert report.facts.trivial_loss is None


def test_warm_restarts(kit):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 60)
    assert_silent(fit(kit, model, optimizer, samples(), epochs=12, scheduler=scheduler))


def test_batches_of_one(kit):
    model = net()
    assert_silent(fit(kit, model, torch.optim.SGD(model.parameters(), 0.02), samples(n=240), epochs=4, batch=1))


def test_a_likelihood_that_becomes_negative(kit):
    x = torch.randn(480, 8)
    y = 0.3 * x[:, 0] + 0.01 * torch.randn(480)

    def loss(m, inputs, target):
        out = m(inputs)
        return (out[:, 1] + 0.5 * ((target - out[:, 0]) / out[:, 1].exp()) ** 2).mean()

    model = net(classes=2)
    assert_silent(fit(kit, model, torch.optim.Adam(model.parameters(), 3e-3), (x, y), loss=loss, epochs=20))


def test_a_regression_with_heavy_tails_and_large_targets(kit):
    x = torch.randn(480, 8)
    y = 1e6 * (3.0 + x[:, 0] + 0.2 * torch.distributions.StudentT(2.0).sample((480,)))
    model = net(classes=1)
    report = fit(
        kit,
        model,
        torch.optim.Adam(model.parameters(), 1e-2),
        (x, y),
        loss=lambda m, x, y: F.mse_loss(3e6 + 1e6 * m(x).squeeze(-1), y),
    )
    assert_silent(report)


def test_targets_far_from_the_scale_of_the_model_are_named(kit):
    x = torch.randn(480, 8)
    model = net(classes=1)
    report = fit(
        kit,
        model,
        torch.optim.Adam(model.parameters(), 1e-2),
        (x, 1e6 * (3.0 + x[:, 0])),
        loss=lambda m, x, y: F.mse_loss(m(x).squeeze(-1), y),
    )
    assert report.root.code == "data.scale"
    assert report.diagnosis.causes[0].code == "unscaled_targets"


def test_fine_tuning_of_a_model_that_is_good_already(kit):
    model, (x, y) = net(), samples()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert_silent(fit(kit, model, torch.optim.Adam(model.parameters(), 1e-6), (x, y), epochs=15))


# Faults that look much alike


def test_the_reasons_for_not_learning_are_told_apart(kit):
    x, y = samples()
    adam = torch.optim.Adam

    def cause_of(optimizer_of, labels=y, model=None, root="loss.no_learning"):
        torch.manual_seed(1)
        model = net() if model is None else model
        report = fit(kit, model, optimizer_of(model), (x, labels), epochs=26)
        assert report.root is not None
        assert report.root.code == root
        return report.diagnosis.likely_cause

    shuffled = y[torch.randperm(len(y))]
    heavy = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.98), torch.nn.Linear(16, 3))
    assert cause_of(lambda m: adam(m.parameters(), 1e-3), shuffled) == "no_signal"
    assert cause_of(lambda m: adam(m.parameters(), 1e-7)) == "learning_rate_too_low"
    others = cause_of(lambda m: adam(net().parameters(), 1e-3), root="gradient.missing")
    assert others == "parameters_not_in_optimizer"
    assert cause_of(lambda m: adam(m.parameters(), 1e-3), shuffled, heavy) == "too_much_regularization"


def test_a_loss_that_divides_by_zero_is_not_blamed_on_the_data(kit):
    steps = iter(range(10_000))

    def loss(m, x, y):
        count = torch.tensor(0.0 if next(steps) == 50 else 16.0)
        return (F.cross_entropy(m(x), y, reduction="none").sum() * count.sign()) / count

    model = net()
    report = fit(kit, model, torch.optim.Adam(model.parameters(), 1e-3), samples(), loss=loss, validates=False)
    assert report.root.code == "loss.non_finite"
    assert report.diagnosis.likely_cause == "numerical_instability"
    assert "corrupted_batch" not in [c.code for c in report.diagnosis.causes]
