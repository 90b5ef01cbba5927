from __future__ import annotations

import math
import sys

import pytest

from failguard.core.history import History
from failguard.core.run_info import RunInfo
from failguard.report.plots import plots
from failguard.report.run_report import RunReport


def of(steps=(), epochs=None, per_step="loss", **more) -> RunReport:
    history = History()
    for step, value in enumerate(steps):
        history.step_series(per_step).append(step, value)
    for name, values in (epochs or {}).items():
        for epoch, value in enumerate(values):
            history.epoch_series(name).append(epoch, value)
    return RunReport(RunInfo("a", "b"), history=list(history.rows()), **more)


def test_nothing_to_draw():
    assert plots(of()) == []
    assert plots(of([1.0])) == []
    assert plots(of([math.nan] * 5)) == []


@pytest.mark.parametrize(
    "values",
    [
        [1e300, -1e300, 1e300],
        [0.0] * 5,
        [1e-9, 2e-9, 1e-9],
        [-3.0, -2.0, -1.0],
        [1.0, math.inf, math.nan, 2.0],
        [5e-324, 1e308],
        [1.0, math.nan],
        list(range(5000)),
    ],
    ids=range(8),
)
def test_odd_values_are_drawn(values):
    drawn = plots(of(values))
    assert [p.title for p in drawn] == ["Training loss per step"]
    assert drawn[0].svg.startswith("<svg")
    assert len(drawn[0].svg) < 200_000


def test_epochs_show_training_validation_and_the_best_epoch():
    best = {"monitor": "val_f1", "epoch": 1, "value": 0.5}
    report = of(epochs={"train_loss": [3, 2, 1], "val_loss": [3, 2.5, 2.6], "val_f1": [0.1, 0.5, 0.4]}, best=best)
    (plot,) = plots(report)
    assert [e.name for e in plot.legend] == ["training loss", "val_f1", "val_loss", "best epoch"]


def test_colours_follow_the_page():
    svg = plots(of([3.0, 2.0, 1.0]))[0].svg
    assert "var(--curve-1" in svg
    assert "#030303" not in svg
    assert "<script" not in svg


def test_neither_pyplot_nor_settings_are_touched():
    import matplotlib

    before = dict(matplotlib.rcParams)
    loaded = "matplotlib.pyplot" in sys.modules
    plots(of([3.0, 2.0, 1.0]))
    assert dict(matplotlib.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == loaded


def test_the_users_own_settings_do_no_harm(monkeypatch):
    import matplotlib

    for name, value in {
        "text.usetex": True,
        "axes.formatter.use_mathtext": True,
        "svg.fonttype": "none",
        "savefig.bbox": "tight",
        "font.family": ["No Such Font"],
        "axes.grid": True,
        "figure.autolayout": True,
    }.items():
        monkeypatch.setitem(matplotlib.rcParams, name, value)
    assert plots(of([3.0, 200.0, 0.01]))[0].svg
