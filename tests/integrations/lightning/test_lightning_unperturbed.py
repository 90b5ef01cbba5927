"""A watched fit is the same as an unwatched one, to the bit."""

import pytest
import torch

pytestmark = pytest.mark.framework


def state(run):
    weights = {k: v.clone() for k, v in run.module.state_dict().items()}
    return weights, run.trainer.optimizers[0].state_dict(), torch.get_rng_state()


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


CASES = {
    "automatic": {},
    "manual": {"module": "Manual"},
    "accumulation": {"accumulate_grad_batches": 3},
    "clipping": {"gradient_clip_val": 0.1},
    "bf16": {"precision": "bf16-mixed"},
    "no validation": {"val": False},
    "validation within the epoch": {"val_check_interval": 0.25},
    "validation seldom": {"check_val_every_n_epoch": 2, "max_epochs": 3},
    "sgd": {"module": "sgd"},
    "lbfgs": {"module": "lbfgs", "max_epochs": 1},
}


def make(kit, name):
    return {
        None: kit.Net,
        "Manual": kit.Manual,
        "sgd": lambda: kit.Net(lr=0.1, optimizer="SGD"),
        "lbfgs": lambda: kit.Plain(lr=0.02, optimizer="LBFGS"),
    }[name]()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_weights_optimizer_and_random_streams_are_bit_identical(kit, case):
    kwargs = dict(CASES[case])
    kind = kwargs.pop("module", None)
    runs = []
    for guard in (None, kit.guard(patience=50, check_data=True)):
        torch.manual_seed(3)
        runs.append((kit.fit(guard, make(kit, kind), shuffle=True, **kwargs), torch.get_rng_state()))
    (bare, bare_rng), (watched, watched_rng) = runs
    assert watched.report.status == "completed"
    assert watched.report.part_errors == []
    assert len(watched.report.history) > 0
    assert same(state(bare)[0], state(watched)[0])
    assert same(state(bare)[1], state(watched)[1])
    assert torch.equal(bare_rng, watched_rng)
    assert bare.trainer.global_step == watched.trainer.global_step
    assert bare.trainer.callback_metrics.keys() == watched.trainer.callback_metrics.keys()


def test_checkpoint_files_are_those_of_an_unwatched_fit(kit, tmp_path):
    from lightning.pytorch.callbacks import ModelCheckpoint

    found = []
    for name, guard in (("bare", None), ("watched", kit.guard(patience=50, restore_best_weights=True))):
        checkpoints = ModelCheckpoint(
            tmp_path / name, monitor="val_loss", save_top_k=2, save_last=True, filename="{epoch}-{step}"
        )
        kit.fit(guard, callbacks=[checkpoints], enable_checkpointing=True, max_epochs=3)
        found.append({p.name: torch.load(p, weights_only=False) for p in sorted((tmp_path / name).iterdir())})
    bare, watched = found
    assert bare.keys() == watched.keys()
    assert len(bare) == 3
    for name in bare:
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "loops", "epoch", "global_step"):
            assert same(bare[name][part], watched[name][part]), (name, part)


def test_checkpoints_hold_plain_values_only(kit, tmp_path):
    guard = kit.guard()
    run = kit.fit(guard)
    run.trainer.save_checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert content["callbacks"]["FailGuard"]["guard"]["step"] == 16
