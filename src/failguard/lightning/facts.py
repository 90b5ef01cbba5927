"""What a Lightning trainer knows of its run, as plain facts."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

from failguard.core.facts import Facts
from failguard.torch.inspect import loss_module_name, model_facts, optimizer_facts, plain_values, settings_of, versions

__all__ = ["gradient_scale", "logger_run", "read_facts"]


def read_facts(trainer: Any, module: Any) -> Facts:
    """Facts of a fit that is about to train its first batch."""
    clip = trainer.gradient_clip_val
    clipping = None
    if clip:
        algorithm = getattr(trainer.gradient_clip_algorithm, "value", trainer.gradient_clip_algorithm) or "norm"
        clipping = f"{algorithm} {float(clip)}"
    schedule = next((type(c.scheduler).__name__ for c in trainer.lr_scheduler_configs), None)
    optimizer = optimizer_facts(trainer.optimizers, clipping=clipping, schedule=schedule)
    config = _hyperparameters(module)
    if trainer.datamodule is not None:
        config = {**_hyperparameters(trainer.datamodule), **config}
    batches = trainer.num_training_batches
    return Facts(
        framework="lightning",
        versions=versions("lightning", "pytorch-lightning"),
        config=config or settings_of(optimizer),
        optimizer=optimizer,
        model=model_facts(module),
        loss_name=loss_module_name(module),
        train_samples=_samples(trainer.train_dataloader),
        validation_samples=_samples(trainer.val_dataloaders),
        validates=bool(trainer.enable_validation),
        steps_per_epoch=int(batches) if batches != float("inf") else None,
        max_epochs=_limit(trainer.max_epochs),
        max_steps=_limit(trainer.max_steps),
        accumulate_batches=int(trainer.accumulate_grad_batches),
        loss_scaled=getattr(trainer.precision_plugin, "scaler", None) is not None,
        device=str(trainer.strategy.root_device),
        world_size=int(trainer.world_size),
    )


def logger_run(trainer: Any) -> tuple[str | None, str | None]:
    """Run and store of the trainer's MLflow logger.

    Returns:
        Run id and tracking address, each ``None`` without one. Known by its class name: failguard imports no logger.
    """
    for logger in trainer.loggers:
        if any(kind.__name__ == "MLFlowLogger" for kind in type(logger).__mro__):
            run_id = getattr(logger, "run_id", None)
            address = getattr(logger, "tracking_uri", None) or getattr(logger, "_tracking_uri", None)
            return (str(run_id) if run_id else None), (str(address) if address else None)
    return None, None


def gradient_scale(optimizer: Any, scale: Any) -> Any:
    """What the gradients that an optimizer is about to take are multiplied by.

    Lightning has unscaled them by then, except for fused optimizers, which do it themselves. There is no public way to
    know.

    Args:
        optimizer: Takes the gradients.
        scale: Of the loss, see :func:`failguard.torch.loss_scale.loss_scale`.
    """
    return scale if scale is not None and getattr(optimizer, "_step_supports_amp_scaling", False) else 1.0


def _hyperparameters(owner: Any) -> dict[str, Any]:
    return plain_values(dict(getattr(owner, "hparams", None) or {}))


def _limit(value: Any) -> int | None:
    return int(value) if value is not None and value >= 0 else None


def _samples(loaders: Any) -> int | None:
    """Samples in a data loader, or in several together."""
    if isinstance(loaders, dict):
        loaders = list(loaders.values())
    if isinstance(loaders, list | tuple):
        sizes = [_samples(loader) for loader in loaders]
        known = [s for s in sizes if s is not None]
        return sum(known) if known and len(known) == len(sizes) else None
    dataset = getattr(loaders, "dataset", None)
    if not isinstance(dataset, Sized):
        return None
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):  # an iterable data set without a length
        return None
