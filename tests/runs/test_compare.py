from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from failguard.report.outcome import Outcome
from failguard.runs.compare import changes, compare, distance, nearest_good
from failguard.runs.curves import curve_pairs
from failguard.runs.entry import RunEntry

START = datetime(2026, 3, 1, tzinfo=UTC)


def run(name: str, hour: int = 0, outcome: Outcome | None = Outcome.SUCCESS, **changed: Any) -> RunEntry:
    values: dict[str, Any] = {
        "run_id": name, "experiment_id": "1", "experiment": "shop", "name": name, "status": "completed",
        "started_at": START + timedelta(hours=hour), "outcome": outcome, "line": "shop",
    }  # fmt: skip
    return RunEntry(**{**values, **changed})


def test_changes() -> None:
    before = {"lr": 0.1, "width": 64, "amp": True, "gone": None, "nan": math.nan, "layers": [1, 2]}
    after = {"lr": 0.3, "width": 64.0, "amp": 1, "nan": math.nan, "layers": [1, 2], "new": "x"}
    assert [str(c) for c in changes(before, after)] == ["lr 0.1 → 0.3", "amp True → 1", "gone None → -", "new - → x"]


def test_distance() -> None:
    base = run("a", config={"lr": 0.1, "optimizer": "sgd", "width": 64})
    assert distance(base, base) == 0
    assert distance(base, run("b", config={**base.config, "lr": 0.01})) == pytest.approx(1)
    assert distance(base, run("b", config={**base.config, "lr": 0.05})) == pytest.approx(math.log10(2))
    assert distance(base, run("b", config={**base.config, "lr": -0.1})) == 1
    assert distance(base, run("b", config={"lr": 0.1})) == 2
    assert distance(base, run("b", config={**base.config, "optimizer": "adam", "lr": 1e-9})) == 2


def test_the_nearest_good_run() -> None:
    failed = run("failed", 5, Outcome.FAILURE, config={"lr": 3.0, "width": 64})
    near = run("near", 1, config={"lr": 0.1, "width": 64})
    others = [
        failed,
        run("far", 6, config={"lr": 0.1, "width": 512, "depth": 3}),
        run("partial", 5, Outcome.PARTIAL, config=failed.config),
        run("unknown", 5, None, config=failed.config),
        run("elsewhere", 5, config=failed.config, experiment_id="2"),
        near,
        run("later twin", 20, config=near.config),
    ]
    assert nearest_good(failed, others) is near
    assert nearest_good(failed, [others[4]]) is others[4]
    assert nearest_good(failed, others[2:4]) is None
    assert nearest_good(near, [near]) is None


def points(*values: float, every: int = 1) -> list[tuple[int, float]]:
    return [(i * every, value) for i, value in enumerate(values)]


def test_curves_part_where_they_stay_apart() -> None:
    good = points(4.0, 3.0, 2.0, 1.0, 0.5, 0.4)
    (pair,) = curve_pairs({"loss": points(4.0, 3.0, 9.0, 1.0, 5.0, math.nan)}, {"loss": good})
    assert pair.apart_from == 4  # the spike at 2 came back
    (same,) = curve_pairs({"loss": good[:4]}, {"loss": good})
    assert same.apart_from is None
    (longer,) = curve_pairs({"loss": points(4.0, 3.0, 2.0, 1.0, 0.5, 0.4, 9.0)}, {"loss": good})
    assert longer.apart_from is None  # what the other never reached is not compared
    (coarse,) = curve_pairs({"loss": points(4.0, 9.0, every=3)}, {"loss": good})
    assert coarse.apart_from == 3
    (flat,) = curve_pairs({"loss": points(1.0, 1.0)}, {"loss": points(1.0, 1.0)})
    assert flat.apart_from is None
    assert flat.lines == ("▁" * 32, "▁" * 32)


def test_a_line_of_bars() -> None:
    first = points(8.0, 1.797e308, math.nan)
    (pair,) = curve_pairs({"loss": first}, {"loss": points(8.0, 4.0, 1.0, 1.0)})
    broken, good = pair.lines
    assert broken.startswith("█")
    assert "!" in broken
    assert len(broken) < len(good) == 32
    assert (good[0], good[-1]) == ("█", "▁")
    assert pair.to_dict()["runs"][0] == {"first": 8.0, "last": "NaN", "points": 3, "last_step": 2}


def test_which_curves_and_in_what_order() -> None:
    both = {n: points(1.0, 2.0) for n in ("accuracy", "val_loss", "loss", "step_s", "process_memory_bytes")}
    alone = {"only": points(1.0, 2.0), "short": points(1.0)}
    found = [p.name for p in curve_pairs({**both, **alone}, {**both, "short": points(1.0, 2.0)})]
    assert found == ["val_loss", "loss", "accuracy"]  # times and sizes say nothing of learning


def test_a_comparison() -> None:
    first = run(
        "bad", 1, Outcome.FAILURE, config={"lr": 3.0}, setup={"optimizer": "SGD"}, finding="loss.divergence",
        findings=("gradient.exploding", "loss.divergence"), framework="torch", used_h=0.5,
        tags={"mlflow.source.git.commit": "abc"},
    )  # fmt: skip
    second = run("good", 2, config={"lr": 0.1}, setup={"optimizer": "SGD"}, framework="keras")
    environments = ({"python": "3.11", "packages": {"torch": "2.1"}}, {"python": "3.11", "packages": {"torch": "2.2"}})
    found = compare(first, second, environments, notes=["a word"])
    assert ("outcome", "failure", "success") in found.outcome
    assert ("also seen", "gradient.exploding", "-") in found.outcome
    assert [c.name for c in found.config] == ["lr"]
    assert found.setup == ()
    assert {c.name: c.texts for c in found.environment} == {
        "framework": ("torch", "keras"),
        "mlflow.source.git.commit": ("abc", "-"),
        "packages.torch": ("2.1", "2.2"),
    }
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["config"] == [{"name": "lr", "values": [3.0, 0.1]}]
    assert plain["notes"] == ["a word"]
