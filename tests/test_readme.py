"""Every command and snippet of the README runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"(?:<!-- test: (?P<name>\w+) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)```", re.S)
BLOCKS = [m.groupdict() for m in BLOCK.finditer(README)]

pytestmark = [pytest.mark.framework, pytest.mark.slow]


def snippet(name: str) -> str:
    (block,) = (b for b in BLOCKS if b["name"] == name)
    return str(block["text"])


def test_every_python_block_and_command_is_covered_here() -> None:
    names = [b["name"] for b in BLOCKS if b["kind"] == "python"]
    assert sorted(names) == [
        "analyze",
        "data",
        "experiment",
        "keras",
        "learning",
        "lightning",
        "memory",
        "monitor",
        "registry",
        "report",
        "torch",
    ]
    commands = [b for b in BLOCKS if b["kind"] == "sh" and b["name"] is None]
    assert [b["text"].split()[0] for b in commands] == ["pip", "make"]


def test_the_lightning_snippet_and_the_report() -> None:
    import lightning as L
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    class Model(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = torch.nn.Linear(4, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", torch.nn.functional.mse_loss(self.net(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    class Data(L.LightningDataModule):
        def loader(self) -> Any:
            x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
            return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=16)

        train_dataloader = val_dataloader = loader

    names: dict[str, Any] = {"model": Model(), "data": Data()}
    exec(snippet("lightning"), names)
    names["guard"] = next(c for c in names["trainer"].callbacks if type(c).__name__ == "FailGuard")
    exec(snippet("report"), names)
    assert names["report"].status in ("completed", "stopped")
    assert Path("failguard_runs").is_dir()


def test_the_keras_snippet() -> None:
    import keras
    import numpy as np

    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    y = x.sum(1, keepdims=True)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    exec(snippet("keras"), {"model": model, "x": x, "y": y, "xv": x, "yv": y})
    assert Path("failguard_runs").is_dir()


def test_the_loop_snippet() -> None:
    import torch

    model = torch.nn.Linear(4, 1)
    x = torch.randn(32, 4)
    names: dict[str, Any] = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "loader": [(x, x.sum(1, keepdim=True))] * 4,
        "loss_fn": lambda m, batch: torch.nn.functional.mse_loss(m(batch[0]), batch[1]),
        "validate": lambda m: float(torch.nn.functional.mse_loss(m(x), x.sum(1, keepdim=True))),
    }
    exec(snippet("torch"), names)
    assert names["guard"].report.progress.steps == 80


def test_the_snippet_about_earlier_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody is there: MLflow need not be loaded

    def train(model: Any, optimizer: Any, guard: Any) -> None:
        for _ in range(60):
            optimizer.zero_grad()
            loss = (model(torch.ones(4, 4)) ** 2).mean() * 100.0
            loss.backward()
            if guard.step(loss=loss):
                optimizer.step()
            if guard.should_stop:
                return

    reports = []
    for _ in range(2):
        model = torch.nn.Linear(4, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
        names: dict[str, Any] = {"model": model, "optimizer": optimizer, "train": train}
        exec(snippet("memory"), names)
        reports.append(names["guard"].report)
    assert reports[0].similar_runs == []
    assert [run["finding"] for run in reports[1].similar_runs] == [reports[0].root.code]


def write_log() -> None:
    rows = "".join(f"{e},{2.3 / (e + 1):.3f},{2.2 / (e + 1):.3f}\n" for e in range(10))
    Path("metrics.csv").write_text("epoch,train_loss,val_loss\n" + rows)


def test_the_analyze_snippet() -> None:
    write_log()
    exec(snippet("analyze"), {})


def test_the_monitor_snippet(capsys: Any) -> None:
    Path("data.txt").write_text("a b\nc d\n")
    names: dict[str, Any] = {}
    exec(snippet("monitor"), names)
    assert names["monitor"].duration_s > 0


def test_the_experiment_snippet() -> None:
    names: dict[str, Any] = {"train": lambda config: {"recall": 0.9}}
    exec(snippet("experiment"), names)
    assert names["result"] == {"status": "success", "metrics": {"recall": 0.9}}
    assert names["run"].run_id
    assert names["record"].outcome == "Success"


def test_the_commands_about_resources() -> None:
    Path("train.py").write_text("print('trained')\n")
    ids = [make_record(), make_record()]
    run, report = [line.split("#")[0].split() for line in snippet("resources").splitlines()]
    assert (run[:3], report[:3]) == (["failguard", "run", "--"], ["failguard", "report", "--resources"])
    command = str(Path(sys.executable).parent / "failguard")
    for words in ([command, "run", "--", sys.executable, *run[4:]], [command, *report[1:3], *ids]):
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout


def make_tables() -> tuple[Any, Any]:
    import numpy as np
    import pandas as pd

    r = np.random.default_rng(0)
    parts = []
    for name in ("train.csv", "new.csv"):
        frame = pd.DataFrame({"a": r.normal(size=300), "b": r.normal(size=300), "y": r.integers(0, 2, 300)})
        frame.to_csv(name, index=False)
        parts.append(frame)
    return parts[0], parts[1]


def test_the_data_snippet_and_commands() -> None:
    import numpy as np

    train, validation = make_tables()
    r = np.random.default_rng(1)
    names: dict[str, Any] = {"df": train, "train": train, "validation": validation, "user_data": train}
    names |= {"predictions": r.random(300) < 0.5, "truth": r.random(300) < 0.5}
    exec(snippet("data"), names)
    assert names["report"].ok
    command = str(Path(sys.executable).parent / "failguard")
    for line in snippet("data_commands").splitlines():
        words = shlex.split(line.split("#")[0])
        done = subprocess.run([command, *words[1:]], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, (line, done.stdout, done.stderr)


def test_the_registry_snippet_and_commands(capsys: Any) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{Path.cwd()}/mlflow.db")
    for name, rate, outcome in (("baseline", 3.0, "failure"), ("lower rate", 0.03, "success")):
        tags = {"failguard.status": "completed", "failguard.outcome": outcome}
        run = client.create_run("0", run_name=name, tags=tags)
        client.log_param(run.info.run_id, "lr", rate)
        client.set_terminated(run.info.run_id)
    command = str(Path(sys.executable).parent / "failguard")
    for line in snippet("registry_commands").splitlines():
        done = subprocess.run(
            [command, *shlex.split(line, comments=True)[1:]], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, (line, done.stderr)
        assert "baseline" in done.stdout
    exec(snippet("registry"), {})
    assert "baseline" in capsys.readouterr().out


def test_the_learning_snippet_and_commands() -> None:
    from mlflow.tracking import MlflowClient

    run = MlflowClient("sqlite:///mlflow.db").create_run("0", run_name="wider")
    MlflowClient("sqlite:///mlflow.db").set_terminated(run.info.run_id, "FAILED")
    names: dict[str, Any] = {}
    exec(snippet("learning"), names)
    assert names["metrics"].details["failure_rate"].value == 1.0
    command = str(Path(sys.executable).parent / "failguard")
    for line in snippet("learning_commands").splitlines():
        words = shlex.split(line.split("#")[0].replace("RUN", run.info.run_id))
        done = subprocess.run([command, *words[1:]], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert Path("digest.html").is_file()


def test_the_commands(tmp_path: Path) -> None:
    write_log()
    lines = [line.split("#")[0].strip() for line in snippet("commands").splitlines()]
    assert [shlex.split(line)[:2] for line in lines] == [
        ["failguard", c] for c in ("demo", "doctor", "analyze", "report", "explain", "sync")
    ]
    command = str(Path(sys.executable).parent / "failguard")
    for line in lines:
        words = shlex.split(line)[1:]
        if words[0] == "demo":  # run by tests/demo
            continue
        if words[0] == "report":
            record = make_record()
            words = [words[0], record]
        done = subprocess.run([command, *words], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, (line, done.stderr)
        assert done.stdout or words[0] == "sync"


def make_record() -> str:
    """A local record, as a guarded run leaves it."""
    import torch

    from failguard.sinks.files import LocalRecord
    from failguard.torch import FailGuard

    model = torch.nn.Linear(2, 1)
    with FailGuard(model, torch.optim.SGD(model.parameters(), lr=0.1), sinks=[LocalRecord("failguard_runs")]) as guard:
        loss = model(torch.ones(1, 2)).sum()
        loss.backward()
        guard.step(loss=loss)
    return guard.report.run.record_id


# team_history.py is run by tests/runs/test_team_history.py.
@pytest.mark.parametrize(
    "example", sorted(p.name for p in (ROOT / "examples").glob("*.py") if p.name != "team_history.py")
)
def test_the_examples(example: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / example)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    expected = {
        "lightning_digits.py": "stopped data.non_finite corrupted_batch",
        "keras_digits.py": "stopped metric.overfitting",
        "torch_loop.py": "stopped loss.divergence learning_rate_too_high",
        "experiments.py": "failed numerical_instability\nsuccess accuracy 0.9",
        "optuna_search.py": "pruned   rate 500",
    }
    assert expected[example] in done.stdout
