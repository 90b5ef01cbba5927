"""What is kept of a fit for trials of remedies: the model at the start, the first batches, the failing one."""

from __future__ import annotations

import pickle
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest

keras = pytest.importorskip("keras")

from failguard.core.capsule import CapsuleRefused, read_info  # noqa: E402
from failguard.core.facts import Facts, OptimizerFacts  # noqa: E402
from failguard.core.history import Series  # noqa: E402
from failguard.keras import capture as capture_module  # noqa: E402
from failguard.keras.capture import Capture  # noqa: E402
from failguard.sinks.files import LocalRecord  # noqa: E402
from failguard.verify.changes import Change  # noqa: E402
from failguard.verify.replay_keras import KerasCapsule  # noqa: E402

pytestmark = pytest.mark.framework


def layers() -> list[Any]:
    return [keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.Dropout(0.2)]


@pytest.mark.parametrize("compiling", [{}, {"run_eagerly": True}, {"jit_compile": True}], ids=str)
def test_a_fit_is_the_same_to_the_bit(
    compiling: Any, data: Any, make_model: Any, make_guard: Any, fit: Any, state: Any
) -> None:
    runs = []
    for guard in (None, make_guard(verify_remedies=True)):
        model = make_model(layers, **compiling)
        fit(model, data, guard, shuffle=True, epochs=5)
        runs.append(state(model))
    assert guard.report.part_errors == []
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_start_and_the_failing_batch_are_kept(data: Any, make_model: Any, make_guard: Any, fit: Any) -> None:
    x, y = data[0].copy(), data[1]
    x[7 * 16 + 2, 1] = np.nan
    guard = make_guard(verify_remedies="capture", sinks=[LocalRecord("failguard_runs")])
    model = make_model(layers)
    before = [np.array(v) for v in model.weights]
    fit(model, (x, y), guard)
    (folder,) = Path("failguard_runs").glob("*/capsule")
    info = read_info(folder)
    assert (info.framework, info.backend, info.failed_step) == ("keras", "tensorflow", 7)
    assert info.moments == [{"step": 0, "batches": 8}]
    batches = pickle.loads((folder / "steps.pkl").read_bytes())["moments"][0]["batches"]
    assert [b["step"] for b in batches] == list(range(8))
    assert np.isnan(batches[7]["batch"][0][2, 1])
    assert batches[0]["loss"] is not None
    stored = keras.saving.load_model(folder / "model.keras")
    for weight, value in zip(stored.weights, before, strict=True):
        np.testing.assert_array_equal(np.array(weight), value)


@pytest.mark.parametrize(
    ("change", "falls"),
    [
        (None, False),
        (Change("c", rate_factor=1e-6), True),
        (Change("c", clip_norm=1e-3), True),
        (Change("c", rate_factor=1e-6, scales_inputs=True, drops_rows=True, dropout=0.1, initializes=True), True),
        (Change("c", rate_factor=1e-6, unfreezes=True, weight_decay=0.001), True),
    ],
    ids=["as it was", "rate", "clipped", "much", "unfrozen"],
)
def test_changes_are_made(change: Change | None, falls: bool, data: Any, make_model: Any, tmp_path: Path) -> None:
    rate = 1.0 if change is not None and change.clip_norm else 1e5
    model = make_model(optimizer=keras.optimizers.SGD(rate))
    kept = Capture(model, Facts(framework="keras"), 0)
    for step in range(10):
        kept.see((data[0][16 * step : 16 * step + 16], data[1][16 * step : 16 * step + 16]), step)
    info = kept.write(tmp_path, Series(), 3)
    opened = KerasCapsule(tmp_path, info, Facts(optimizer=OptimizerFacts("SGD", 1e5)))
    assert opened.moments == [(0, 10)]
    replay = opened.replay(0, change, 30, monotonic() + 60)
    assert replay.error == ""
    assert (replay.after < replay.before) is falls
    assert len(replay.losses) == 30 or replay.ended == "loss"


def test_a_schedule_is_multiplied(data: Any, make_model: Any, tmp_path: Path) -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(1e5, 10, 0.9)
    kept = Capture(make_model(optimizer=keras.optimizers.SGD(schedule, momentum=0.5)), Facts(framework="keras"), 0)
    kept.see((data[0][:16], data[1][:16]), 0)
    opened = KerasCapsule(tmp_path, kept.write(tmp_path, Series(), None), Facts())
    replay = opened.replay(0, Change("c", rate_factor=1e-6), 20, monotonic() + 60)
    assert replay.error == ""
    assert replay.after < replay.before


def test_what_cannot_be_kept_is_said(make_model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = Capture(make_model(), Facts(framework="keras"), 0)
    kept.see(None, 0)
    assert not kept.wants_batch
    with pytest.raises(CapsuleRefused, match="under XLA"):
        kept.write(tmp_path, Series(), None)
    monkeypatch.setattr(capture_module, "available_memory_bytes", lambda: 100.0)
    with pytest.raises(CapsuleRefused, match="10% of the free memory"):
        Capture(make_model(), Facts(framework="keras"), 0)


def test_batches_are_bounded_in_number_and_size(
    make_model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kept = Capture(make_model(), Facts(framework="keras"), 0)
    batch = np.zeros((16, 6), "float32"), np.zeros(16, "int32")
    steps = 0
    while kept.wants_batch:
        kept.see(batch, steps)
        steps += 1
    assert kept.write(tmp_path, Series(), None).batches == steps == capture_module.WINDOW_STEPS
    monkeypatch.setattr(capture_module, "BATCHES_BYTES", 2 * 3 * (16 * 7 * 4))
    kept = Capture(make_model(), Facts(framework="keras"), 0)
    for step in range(5):
        if kept.wants_batch:
            kept.see(batch, step)
    assert kept.write(tmp_path, Series(), None).batches == 3
