"""The demo's five trainings, the same in every framework, on scikit-learn's handwritten digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SCENARIOS", "Digits", "Scenario", "load_digits"]

BATCH_SIZE = 32


@dataclass(frozen=True)
class Digits:
    """Handwritten digits, 8x8 pixels scaled to 0..1.

    Attributes:
        x_train, x_validation: float32, shape (n, 64).
        y_train, y_validation: int64, shape (n,), classes 0 to 9.
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_validation: NDArray[np.float32]
    y_validation: NDArray[np.int64]


def load_digits(seed: int = 0) -> Digits:
    """The digits in a fixed random order, 1,437 for training and 360 for validation."""
    import numpy as np
    from sklearn.datasets import load_digits as bundled

    x, y = bundled(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(x))
    x = (x[order] / 16.0).astype(np.float32)
    y = y[order].astype(np.int64)
    cut = int(0.8 * len(x))
    return Digits(x[:cut], y[:cut], x[cut:], y[cut:])


def _unchanged(digits: Digits) -> Digits:
    return digits


def _with_corrupted_batch(digits: Digits) -> Digits:
    """One image of batch 20 holds NaN, as a broken file or a division by a zero range would give."""
    x = digits.x_train.copy()
    x[20 * BATCH_SIZE + 5, 10:14] = float("nan")
    return replace(digits, x_train=x)


def _with_shuffled_labels(digits: Digits) -> Digits:
    """Labels in random order: nothing can be learned from the images."""
    import numpy as np

    return replace(digits, y_train=np.random.default_rng(1).permutation(digits.y_train))


def _few_with_wrong_labels(digits: Digits) -> Digits:
    """300 images, two in five with a random label: a large network memorises them."""
    import numpy as np

    rng = np.random.default_rng(1)
    y = digits.y_train[:300].copy()
    wrong = rng.permutation(300)[:120]
    y[wrong] = rng.integers(0, 10, len(wrong))
    return replace(digits, x_train=digits.x_train[:300], y_train=y)


@dataclass(frozen=True)
class Scenario:
    """One training.

    Attributes:
        name: As the table shows it.
        hypothesis: What the run is said to show, for the registry.
        expected: Root findings that are right, none for a healthy run. A NaN in the input reaches the loss or not, as
            the framework's ReLU has it; it always reaches the gradient.
        data: Makes its data from the clean digits.
        optimizer: ``"adam"`` or ``"sgd"``.
        learning_rate, epochs: The plan.
        hidden: Units of the hidden layers.
        guard: Keywords of FailGuard beside the defaults.
    """

    name: str
    hypothesis: str
    expected: tuple[str, ...]
    data: Callable[[Digits], Digits] = _unchanged
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    epochs: int = 10
    hidden: tuple[int, ...] = (64,)
    guard: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, Any]:
        """The hyperparameters, as a user would log them."""
        return {
            "optimizer": self.optimizer,
            "learning_rate": self.learning_rate,
            "epochs": self.epochs,
            "hidden": list(self.hidden),
            "batch_size": BATCH_SIZE,
        }


SCENARIOS = (
    Scenario("healthy", "a small network learns the digits", expected=()),
    Scenario(
        "corrupted batch",
        "the new export of the images trains as the old one did",
        expected=("loss.non_finite", "gradient.non_finite", "data.non_finite"),
        data=_with_corrupted_batch,
    ),
    Scenario(
        "learning rate far too high",
        "a larger rate trains faster",
        expected=("loss.divergence",),
        optimizer="sgd",
        learning_rate=100.0,
    ),
    Scenario(
        "shuffled labels",
        "the relabelled set is learnable",
        expected=("loss.no_learning",),
        data=_with_shuffled_labels,
        epochs=15,
        hidden=(32,),
        guard={"policy": "strict"},
    ),
    Scenario(
        "overfitting",
        "a larger network makes up for few images",
        expected=("metric.overfitting",),
        data=_few_with_wrong_labels,
        epochs=60,
        hidden=(512, 512),
        guard={"patience": 20, "restore_best_weights": True},
    ),
)
