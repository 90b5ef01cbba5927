"""A model that is watched can be copied and saved as a whole at every moment."""

from __future__ import annotations

import copy
import pickle

import pytest

torch = pytest.importorskip("torch")

from failguard.torch import FailGuard  # noqa: E402

pytestmark = pytest.mark.framework


def test_a_model_copies_and_pickles_at_every_step_and_its_copies_do_not_report() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    hooked = 0
    with FailGuard(model, optimizer, sinks=[]) as guard:
        for step in range(80):
            x, y = torch.randn(16, 4), torch.randint(0, 2, (16,))
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            if guard.step(loss=loss, batch=(x, y)):
                optimizer.step()
            hooked += any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
            saved = pickle.dumps(model)
            assert b"failguard" not in saved
            copy.deepcopy(model)(x)
            if step % 20 == 0:
                copy.deepcopy(optimizer)
    assert hooked > 8  # there was something to be copied
    assert guard.report.part_errors == []
    assert guard.report.progress.steps == 80
