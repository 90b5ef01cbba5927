"""Which column of a log is what: names that frameworks and people use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from failguard.errors import ConfigurationError

__all__ = ["ROLES", "Roles", "normal", "roles_of"]

# What a user may say a column is: role -> attribute of Roles.
ROLES = {
    "train_loss": "loss",
    "train_loss_step": "step_loss",
    "train_loss_epoch": "epoch_loss",
    "val_loss": "val_loss",
    "step": "step",
    "epoch": "epoch",
    "gradient_norm": "gradient_norm",
    "learning_rate": "learning_rate",
}

# In order of preference. Compared without case, and with every sign that is no letter or digit as one underscore.
_TRAIN = ("train_loss", "training_loss", "loss", "trainloss", "loss_train", "loss_training", "tr_loss")
# Keras' TensorBoard callback
_TRAIN_EPOCH = ("train_epoch_loss", "epoch_loss")
_TRAIN_BATCH = ("train_batch_loss", "batch_loss", "train_loss_batch", "loss_batch")
_VALIDATION = (
    "val_loss",
    "validation_loss",
    "valid_loss",
    "valloss",
    "loss_val",
    "loss_validation",
    "eval_loss",
    "dev_loss",
    "val_epoch_loss",
    # last: beside a validation loss these are of a final test
    "test_loss",
    "loss_test",
)
_STEP = ("step", "global_step", "trainer_global_step", "steps", "iteration", "iterations", "iter", "n_iter")
_EPOCH = ("epoch", "epochs", "epoch_num", "current_epoch", "episode", "round")
_GRADIENT = ("gradient_norm", "grad_norm", "global_grad_norm", "grad_norm_total", "grad_2_0_norm_total", "gnorm")
_RATE = ("learning_rate", "lr", "lrate")
_TIME = frozenset(
    {
        *("time", "times", "timestamp", "wall_time", "walltime", "runtime", "elapsed", "elapsed_s", "relative_time"),
        *("date", "datetime", "created_at", "unnamed_0", "index"),
    }
)


@dataclass(slots=True)
class Roles:
    """Names of the columns that play a part; ``None`` where there is none.

    Attributes:
        step_loss: Training loss that is per step by its name (``train_loss_step``).
        epoch_loss: Training loss that is per epoch by its name (``train_loss_epoch``).
        loss: Training loss whose name does not say.
        val_loss, step, epoch, gradient_norm, learning_rate: As named.
        metrics: All others but times.
    """

    step_loss: str | None = None
    epoch_loss: str | None = None
    loss: str | None = None
    val_loss: str | None = None
    step: str | None = None
    epoch: str | None = None
    gradient_norm: str | None = None
    learning_rate: str | None = None
    metrics: list[str] = field(default_factory=list)

    @property
    def train_losses(self) -> list[str]:
        """The columns of the training loss."""
        return [name for name in (self.step_loss, self.epoch_loss, self.loss) if name is not None]


def normal(name: str) -> str:
    """``"Train/Loss "`` -> ``"train_loss"``."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def roles_of(names: Iterable[str], given: Mapping[str, str] | None = None) -> Roles:
    """Find out what the columns are, from their names.

    Args:
        names: The columns.
        given: Role (see :data:`ROLES`) to column, as the user says. A training loss given takes the place of all that
            would be guessed.

    Raises:
        ConfigurationError: There is no such role or no such column.
    """
    left = {name: normal(name) for name in names}
    roles = Roles()
    for role, name in (given or {}).items():
        if role not in ROLES:
            near = get_close_matches(role, ROLES, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError(f"columns: {role!r} is no role. Roles: {', '.join(ROLES)}.{hint}")
        if name not in left:
            near = get_close_matches(name, left, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(map(repr, list(left)[:12]))}."
            raise ConfigurationError(f"columns: there is no column {name!r} for {role} (or it is given twice). {hint}")
        setattr(roles, ROLES[role], name)
        del left[name]
    losses_given = bool(roles.train_losses)

    def take(allowed: Iterable[str], suffix: str = "") -> str | None:
        for wanted in allowed:
            for name, plain in left.items():
                if plain == wanted + suffix:
                    del left[name]
                    return name
        return None

    roles.step = roles.step or take(_STEP)
    roles.epoch = roles.epoch or take(_EPOCH)
    if not losses_given:
        roles.step_loss = take(_TRAIN, "_step") or take(_TRAIN_BATCH)
        roles.epoch_loss = take(_TRAIN, "_epoch") or take(_TRAIN_EPOCH)
        roles.loss = take(_TRAIN)
    roles.val_loss = roles.val_loss or take(_VALIDATION) or take(_VALIDATION, "_epoch")
    roles.gradient_norm = roles.gradient_norm or take(_GRADIENT)
    roles.learning_rate = roles.learning_rate or take(_RATE)
    if roles.learning_rate is None:  # Lightning's LearningRateMonitor: lr-Adam
        is_rate = re.compile(r"lr_.*|.*_lr|.*_learning_rate").fullmatch  # or train/lr
        roles.learning_rate = next((name for name, plain in left.items() if is_rate(plain)), None)
        left.pop(roles.learning_rate or "", None)
    roles.metrics = [name for name, plain in left.items() if plain not in _TIME]
    return roles
