"""Each Lightning package alone, and both together."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("lightning")
pytest.importorskip("pytorch_lightning")
pytestmark = [pytest.mark.framework, pytest.mark.slow]

BLOCK = """
import importlib.abc, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Block())
"""

FIT = """
import logging, math, warnings
warnings.simplefilter("ignore")
import torch
{imports}
logging.getLogger({package!r}).setLevel(logging.ERROR)
from failguard.lightning import FailGuard

class Net(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch[0]).pow(2).mean()
        self.log("train_x", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.layer(batch[0]).pow(2).mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

def loader(bad):
    x = torch.randn(32, 4)
    if bad:
        x[17, 0] = math.nan
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=8)

guard = FailGuard(sinks=[], resources=False, patience=3)
for bad in (False, True):
    net = Net()
    trainer = L.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False, callbacks=[guard])
    trainer.fit(net, loader(bad), loader(False))
    report = guard.report
    assert report.part_errors == [], report.part_errors
    finite = bool(torch.isfinite(net.layer.weight).all())
    print(report.status, report.progress.steps, report.root and report.root.where, finite)
print(FailGuard.__mro__[2].__module__.split(".")[0])
"""


def run(code):
    env = {**os.environ, "FAILGUARD_TEST": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-3:]


@pytest.mark.parametrize(
    ("blocked", "imports", "package"),
    [
        ("pytorch_lightning", "import lightning as L", "lightning"),
        ("lightning", "import pytorch_lightning as L", "pytorch_lightning"),
        (
            "nothing",
            "import lightning.pytorch, pytorch_lightning as L",
            "lightning",
        ),  # a callback of one, a trainer of the other
        ("nothing", "from failguard.lightning import FailGuard; import pytorch_lightning as L", "lightning"),
    ],
    ids=["lightning alone", "pytorch_lightning alone", "both", "imported before"],
)
def test_a_fit_with(blocked, imports, package):
    out = run(BLOCK.format(blocked=blocked) + FIT.format(imports=imports, package=package))
    assert out[0] == "completed 8 None True"
    assert out[1] == "stopped 3 input (row 17) True"
    assert out[2] == package


def test_without_either_the_message_says_what_to_install():
    code = (
        BLOCK.format(blocked="lightning").replace("== 'lightning'", "in ('lightning', 'pytorch_lightning')")
        + "try:\n    import failguard.lightning\nexcept ImportError as e:\n    print(e)\n"
    )
    assert "pip install lightning" in run(code)[-1]
