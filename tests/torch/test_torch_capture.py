"""What is kept of a loop: bounded, and without a trace in the run."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from failguard.core import capsule  # noqa: E402
from failguard.core.capsule import WINDOW_STEPS, CapsuleRefused, read_info  # noqa: E402
from failguard.core.facts import Facts, ModelFacts  # noqa: E402
from failguard.core.history import Series  # noqa: E402
from failguard.errors import ConfigurationError  # noqa: E402
from failguard.sinks.files import LocalRecord  # noqa: E402
from failguard.torch import FailGuard, capture  # noqa: E402
from failguard.torch.capture import Capture  # noqa: E402

nn, F = torch.nn, torch.nn.functional
pytestmark = pytest.mark.framework


def make(dropout: float = 0.0, facts: Facts | None = None) -> tuple[nn.Module, torch.optim.Optimizer, Capture]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(dropout), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    return model, optimizer, Capture(model, [optimizer], facts or Facts(framework="lightning"))


def go(kept: Capture, model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> Series:
    losses, table = Series(), torch.randn(16 * 1000, 4)
    for step in range(steps):
        x = table[16 * (step % 1000) : 16 * (step % 1000) + 16]  # views, as many loops hand over
        if kept.wants_batch:
            kept.see((x, x.sum(1)), step, None)
        loss = F.mse_loss(model(x)[:, 0], x.sum(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(step, float(loss.detach()))
    return losses


def test_the_start_and_the_newest_windows_are_kept(tmp_path: Path) -> None:
    model, optimizer, kept = make()
    before = [p.detach().clone() for p in model.parameters()]
    losses = go(kept, model, optimizer, 330)
    info = kept.write(tmp_path / "c", losses, 329)
    assert info.moments == [
        {"step": 0, "batches": WINDOW_STEPS},
        {"step": 288, "batches": WINDOW_STEPS},
        {"step": 320, "batches": 10},
    ]
    assert info.batches == 74
    assert info.size_bytes < 400_000  # of a view only what it shows is kept
    assert read_info(tmp_path / "c") == info
    stored = torch.load(tmp_path / "c" / "model.pt", weights_only=False)
    assert all(torch.equal(a, b) for a, b in zip(before, stored["module"].parameters(), strict=True))
    assert stored["optimizers"][0].param_groups[0]["params"][0] is next(stored["module"].parameters())
    moments = torch.load(tmp_path / "c" / "steps.pt", weights_only=False)["moments"]
    assert moments[0]["weights"] is None
    assert moments[1]["weights"].keys() == dict(model.named_parameters()).keys()
    assert [b["step"] for b in moments[1]["batches"]] == list(range(288, 320))
    assert [b["loss"] for b in moments[1]["batches"]] == losses.values[288:320].tolist()
    assert moments[1]["batches"][0]["groups"][0][0]["lr"] == 0.1
    assert moments[1]["optimizers"][0]["state"][0]["step"] == 288


def test_windows_begin_where_an_update_does(tmp_path: Path) -> None:
    model, optimizer, kept = make(facts=Facts(framework="lightning", accumulate_batches=5))
    info = kept.write(tmp_path, go(kept, model, optimizer, 120), None)
    assert [m["step"] % 5 for m in info.moments] == [0, 0, 0]


def test_batches_are_bounded_in_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "BATCHES_BYTES", 3 * 16 * 5 * 4 * 7)  # seven batches a window
    model, optimizer, kept = make()
    info = kept.write(tmp_path, go(kept, model, optimizer, 100), None)
    assert [m["batches"] for m in info.moments] == [7, 7, 2]
    monkeypatch.setattr(capture, "BATCHES_BYTES", 100)
    model, optimizer, kept = make()
    losses = go(kept, model, optimizer, 3)
    assert not kept.wants_batch
    with pytest.raises(CapsuleRefused, match="too much to keep"):
        kept.write(tmp_path, losses, None)


def test_weights_are_bounded_in_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "available_memory_bytes", lambda: 10_000.0)
    with pytest.raises(CapsuleRefused, match="10% of the free memory"):
        Capture(nn.Linear(100, 100), [torch.optim.SGD([nn.Parameter(torch.ones(1))])], Facts())
    monkeypatch.undo()
    model, optimizer, kept = make()
    kept._room_bytes = len(kept._start_blob) + 100
    losses = go(kept, model, optimizer, 100)  # the start fits, copies of later weights do not
    info = kept.write(tmp_path, losses, None)
    assert [m["step"] for m in info.moments] == [0]
    assert "Later weights were not kept" in info.notes[0]


def test_what_cannot_be_stored_is_said() -> None:
    model = nn.Linear(2, 1)
    model.lock = threading.Lock()
    with pytest.raises(CapsuleRefused, match="cannot be stored"):
        Capture(model, [torch.optim.SGD(model.parameters())], Facts())
    with pytest.raises(CapsuleRefused, match="no optimizer is known"):
        Capture(nn.Linear(2, 1), [], Facts())


def test_random_streams_of_forward_passes_are_kept_in_a_loop(tmp_path: Path) -> None:
    facts = Facts(framework="torch", model=ModelFacts(dropout=0.5))
    model, _, kept = make(0.5, facts)
    x = torch.randn(16, 4)
    torch.rand(7)  # what a loader draws
    state = torch.get_rng_state()
    output = model(x)
    kept.see((x, x.sum(1)), 0, None)
    assert kept._start.kept[0].random is not None
    assert torch.equal(kept._start.kept[0].random[0], state)
    torch.set_rng_state(kept._start.kept[0].random[0])
    assert torch.equal(model(x), output)
    kept.close()
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_run_is_the_same_to_the_bit(dropout: float) -> None:
    results = []
    for keywords in (None, {"verify_remedies": True}):
        torch.manual_seed(1)
        random.seed(1)
        np.random.seed(1)
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(dropout), nn.Linear(8, 1))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        guard = None if keywords is None else FailGuard(model, optimizer, sinks=[], resources=False, **keywords)
        for _ in range(150):
            x = torch.randn(16, 4)
            loss = F.mse_loss(model(x)[:, 0], x.sum(1))
            optimizer.zero_grad()
            loss.backward()
            if guard is None or guard.step(loss=loss, batch=(x, x.sum(1))):
                optimizer.step()
        if guard is not None:
            guard.close()
            assert guard.report.part_errors == []
            assert not model._forward_pre_hooks
        state = optimizer.state_dict()["state"]
        results.append(
            [*model.state_dict().values(), *(v for s in state.values() for v in s.values()), torch.get_rng_state()]
        )
        results[-1].append(torch.tensor([random.random(), np.random.random()]))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_healthy_run_leaves_no_capsule() -> None:
    model = nn.Linear(4, 1)
    keywords = {"verify_remedies": "capture", "sinks": [LocalRecord("failguard_runs")]}
    with FailGuard(model, torch.optim.SGD(model.parameters(), lr=0.01), **keywords) as guard:
        for _ in range(40):
            x = torch.randn(16, 4)
            loss = F.mse_loss(model(x)[:, 0], x.sum(1))
            loss.backward()
            guard.step(loss=loss, batch=(x, x.sum(1)))
    assert guard.report.status == "completed"
    assert list(Path("failguard_runs").glob("*/failguard"))
    assert not list(Path("failguard_runs").glob(f"*/{capsule.FOLDER}"))


def test_a_loss_function_must_be_one() -> None:
    with pytest.raises(ConfigurationError, match="loss_fn=str"):
        FailGuard(nn.Linear(1, 1), loss_fn="mse")
