"""How other tools are put to work on the programs of the benchmark, as their documentation shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.overhead.programs import LoopWatch

__all__ = ["WIRING"]


def _spike_detection(framework: str, folder: Path) -> dict[str, Any]:
    from lightning.pytorch.callbacks import SpikeDetection

    class Spikes(SpikeDetection):
        """Takes a bare loss, which it documents and fails on: it subscripts what the step returned."""

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            super().on_train_batch_end(trainer, module, outputs["loss"], batch, batch_idx)

        def _handle_spike(self, *_: Any) -> None:
            return None

    return {"callbacks": [Spikes(exclude_batches_path=str(folder / "spikes.json"))]}


def _device_stats(framework: str, folder: Path) -> dict[str, Any]:
    from lightning.pytorch.callbacks import DeviceStatsMonitor
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(str(folder), flush_logs_every_n_steps=100)
    return {"callbacks": [DeviceStatsMonitor(cpu_stats=True)], "logger": logger, "log_every_n_steps": 1}


def _grad_norm(framework: str, folder: Path) -> dict[str, Any]:
    import lightning as L
    from lightning.pytorch.utilities import grad_norm

    class Norms(L.Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            pl_module.log_dict(grad_norm(pl_module, norm_type=2))

    return {"callbacks": [Norms()]}


def _lightning_anomaly(framework: str, folder: Path) -> dict[str, Any]:
    return {"detect_anomaly": True}


class _ClipNorm(LoopWatch):
    def begin(self, model: Any, optimizer: Any) -> Any:
        self._model = model
        return optimizer

    def step(self, loss: Any, batch: Any) -> bool:
        import torch

        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1e9)
        return bool(torch.isfinite(norm))


class _Anomaly(LoopWatch):
    def backward(self, net: Any, x: Any, y: Any, index: int) -> Any:
        import torch

        with torch.autograd.detect_anomaly(check_nan=True):
            return super().backward(net, x, y, index)


class _Arc(LoopWatch):
    def begin(self, model: Any, optimizer: Any) -> Any:
        import arc

        self._controller = arc.Controller(model, optimizer)
        return optimizer

    def step(self, loss: Any, batch: Any) -> bool:
        return not self._controller.step(loss).should_skip

    def end(self) -> None:
        self._controller.close()


def _arc(framework: str, folder: Path) -> Any:
    if framework == "torch":
        return _Arc()
    from arc.api.integrations import LightningCallback

    return {"callbacks": [LightningCallback(verbose=False)]}


class _Trainpulse(LoopWatch):
    def begin(self, model: Any, optimizer: Any) -> Any:
        from trainpulse import Monitor

        self._monitor, self._model, self._optimizer, self._steps = Monitor(), model, optimizer, 0
        return optimizer

    def step(self, loss: Any, batch: Any) -> bool:
        import torch

        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), float("inf"))
        values = {"loss": loss.item(), "grad_norm": norm.item(), "learning_rate": self._optimizer.param_groups[0]["lr"]}
        for name, value in values.items():
            self._monitor.log(name, self._steps, value)
        self._steps += 1
        return True


class _StabilityGuard(LoopWatch):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, model: Any, optimizer: Any) -> Any:
        from stabilityguard import GuardedOptimizer

        return GuardedOptimizer(optimizer, model, log_dir=str(self._folder))


class _ModuleMonitor(LoopWatch):
    def begin(self, model: Any, optimizer: Any) -> Any:
        from torch_module_monitor import ModuleMonitor

        self._monitor = ModuleMonitor(monitor_step_fn=lambda step: True)
        self._monitor.set_module(model)
        self._monitor.add_activation_metric("norm", lambda x: x.norm())
        self._monitor.add_parameter_metric("norm", lambda x: x.norm())
        self._monitor.add_gradient_metric("norm", lambda x: x.norm())
        return optimizer

    def backward(self, net: Any, x: Any, y: Any, index: int) -> Any:
        self._monitor.begin_step(index)
        loss = super().backward(net, x, y, index)
        self._monitor.monitor_parameters()
        self._monitor.monitor_gradients()
        self._monitor.end_step()
        self._monitor.get_step_metrics()
        return loss


class _Cockpit(LoopWatch):
    def begin(self, model: Any, optimizer: Any) -> Any:
        import torch
        from backpack import extend
        from cockpit import Cockpit
        from cockpit.utils.configuration import configuration

        extend(model)
        self._mean = extend(torch.nn.CrossEntropyLoss())
        self._each = torch.nn.CrossEntropyLoss(reduction="none")
        self._cockpit = Cockpit(model.parameters(), quantities=configuration("economy"))
        self._optimizer = optimizer
        return optimizer

    def backward(self, net: Any, x: Any, y: Any, index: int) -> Any:
        outputs = net(x)
        loss, losses = self._mean(outputs, y), self._each(outputs, y)
        info = {"batch_size": len(x), "individual_losses": losses, "loss": loss, "optimizer": self._optimizer}
        with self._cockpit(index, info=info):
            loss.backward(create_graph=self._cockpit.create_graph(index))
        return loss


class _Nvitop(LoopWatch):
    def begin(self, model: Any, optimizer: Any) -> Any:
        from nvitop import ResourceMetricCollector

        self._newest: Any = None
        self._is_on = True
        ResourceMetricCollector(interval=1.0).daemonize(on_collect=self._keep)
        return optimizer

    def _keep(self, metrics: Any) -> bool:
        self._newest = metrics
        return self._is_on

    def end(self) -> None:
        self._is_on = False


class _SystemMetrics(LoopWatch):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def begin(self, model: Any, optimizer: Any) -> Any:
        self._run = _mlflow(self._folder).start_run(log_system_metrics=True)
        return optimizer

    def end(self) -> None:
        import mlflow

        mlflow.end_run()


def _system_metrics(framework: str, folder: Path) -> Any:
    if framework == "torch":
        return _SystemMetrics(folder)
    import lightning as L

    watch = _SystemMetrics(folder)

    class Metrics(L.Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            watch.begin(None, None)

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            watch.end()

    return {"callbacks": [Metrics()]}


def _autolog(framework: str, folder: Path) -> Any:
    mlflow = _mlflow(folder)
    if framework == "keras":
        from mlflow.keras import MlflowCallback

        class Autolog(MlflowCallback):
            """Starts its run where the training runs: a run belongs to a thread."""

            def on_train_begin(self, logs: Any = None) -> None:
                mlflow.start_run()
                super().on_train_begin(logs)

        return [Autolog()]
    import mlflow.pytorch._lightning_autolog as autolog

    class Logged(autolog.__MlflowPLCallback):  # type: ignore[name-defined,misc]
        """What ``mlflow.pytorch.autolog`` adds to every trainer, here to one only."""

    client = autolog.MlflowAutologgingQueueingClient()
    run = mlflow.MlflowClient().create_run("0")
    metrics = autolog.BatchMetricsLogger(run.info.run_id)
    return {"callbacks": [Logged(client, metrics, run.info.run_id, False, 1, None)]}


def _mlflow(folder: Path) -> Any:
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    return mlflow


def _terminate_on_nan(framework: str, folder: Path) -> list[Any]:
    import keras

    return [keras.callbacks.TerminateOnNaN()]


def _tensorboard(framework: str, folder: Path) -> list[Any]:
    import keras

    return [keras.callbacks.TensorBoard(str(folder / "board"), update_freq=1)]


def _backup(framework: str, folder: Path) -> list[Any]:
    import keras

    return [keras.callbacks.BackupAndRestore(str(folder / "backup"), save_freq=100)]


WIRING: dict[str, Callable[[str, Path], Any]] = {
    "Lightning SpikeDetection": _spike_detection,
    "Lightning DeviceStatsMonitor": _device_stats,
    "Lightning grad_norm": _grad_norm,
    "Lightning detect_anomaly": _lightning_anomaly,
    "torch clip_grad_norm_": lambda *_: _ClipNorm(),
    "torch detect_anomaly": lambda *_: _Anomaly(),
    "Keras TerminateOnNaN": _terminate_on_nan,
    "Keras TensorBoard": _tensorboard,
    "Keras BackupAndRestore": _backup,
    "MLflow autolog": _autolog,
    "MLflow system metrics": _system_metrics,
    "arc-training": _arc,
    "trainpulse": lambda *_: _Trainpulse(),
    "stabilityguard": lambda framework, folder: _StabilityGuard(folder),
    "torch-module-monitor": lambda *_: _ModuleMonitor(),
    "cockpit": lambda *_: _Cockpit(),
    "nvitop": lambda *_: _Nvitop(),
}
"""By name: from framework and folder to what a program takes."""
