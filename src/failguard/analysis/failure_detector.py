"""The simple rules of the source design for a stream of metrics."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal

from failguard.analysis.values import as_float
from failguard.core.log import logger
from failguard.core.redaction import short
from failguard.errors import ConfigurationError, InputError
from failguard.sinks.messages import Messenger, Target, shown

__all__ = ["Answer", "FailureDetector"]

Answer = Literal["divergence", "no_learning", "overfitting", "completed"]

DEFAULTS: dict[str, float | None] = {"initial_loss": None, "overfitting_ratio": 2.0, "no_learning_after_steps": 100}
LEVEL_STEPS = 10  # losses that make up a level where the initial loss is not given


class FailureDetector:
    """Looks at a stream of metrics and names the first failure by three simple rules.

    At each step, in this order:

    - ``"divergence"``: the loss is NaN or Inf.
    - ``"no_learning"``: ``step > no_learning_after_steps`` and ``loss > initial_loss``. Where ``initial_loss`` is not
      given: the mean of the last 10 losses is not below the mean of the first 10 (from 20 losses on).
    - ``"overfitting"``: ``val_loss > overfitting_ratio * train_loss``, for a training loss above 0.

    ``"completed"`` otherwise. These are the rules and default numbers of the source design. They need no history and
    answer at once, but a noisy loss can trip them, and a ratio means nothing for losses that can be negative.
    :func:`failguard.analyze` looks at the whole course instead and gives causes.

    Attributes:
        thresholds: The numbers in force.
        alert_channel: Where alerts are meant to go; part of the logged line.
        alerts: Who gets each alert's message.
        step: Index of the item that gave the answer, from 0; of the last item for ``"completed"``, -1 for no items.
        message: The alert of the answer, ``""`` for ``"completed"``.

    Example:
        >>> detector = FailureDetector({"initial_loss": 2.3})
        >>> detector.monitor_training([{"loss": 2.3}, {"loss": float("nan")}])
        'divergence'
        >>> detector.step, detector.message
        (1, 'Training diverged at step 1')
    """

    def __init__(
        self,
        thresholds: Mapping[str, float] | None = None,
        *,
        alerts: Callable[[str], object] | Sequence[Target] = (),
        alert_channel: str = "#ml-experiments",
    ) -> None:
        """Args:
            thresholds: Any of ``initial_loss``, ``overfitting_ratio`` (2.0) and ``no_learning_after_steps`` (100).
            alerts: Functions that take a message, and addresses in Apprise syntax such as ``"slack://..."``.
            alert_channel: Name for the logged line and the title of messages; an address is told as well.

        Raises:
            ConfigurationError: A threshold does not exist or is no usable number, or an alert is neither a function nor
                an address that Apprise knows.
        """
        self.thresholds = _checked(thresholds)
        self.alerts = (alerts,) if callable(alerts) else tuple(alerts)
        self.alert_channel = alert_channel
        channel = (alert_channel,) if "://" in alert_channel else ()
        self._messenger = Messenger((*self.alerts, *channel))
        self.step = -1
        self.message = ""

    def monitor_training(self, metrics_stream: Iterable[Mapping[str, Any]]) -> Answer:
        """Go through the stream until a rule answers.

        Args:
            metrics_stream: One mapping a step with ``loss`` (or ``train_loss``), and where they exist ``train_loss``
                (or ``loss``) and ``val_loss``: numbers or scalar tensors, ``None`` for no value. A generator is
                consumed no further than the answer.

        Returns:
            ``"divergence"``, ``"no_learning"``, ``"overfitting"`` or ``"completed"``.

        Raises:
            InputError: An item is no mapping, a value is no number, or no item has a loss.
        """
        self.step, self.message = -1, ""
        first: list[float] = []
        recent: deque[float] = deque(maxlen=LEVEL_STEPS)
        losses = 0
        saw_loss = False
        for step, metrics in enumerate(_items(metrics_stream)):
            self.step = step
            if not isinstance(metrics, Mapping):
                raise InputError(
                    f"Item {step} of the stream is {short(metrics)}. Yield mappings such as {{'loss': 0.3}}."
                )
            loss, train_loss, val_loss = (
                as_float(metrics.get(name), f"{name!r} of item {step}") for name in ("loss", "train_loss", "val_loss")
            )
            loss = train_loss if loss is None else loss
            train_loss = loss if train_loss is None else train_loss
            saw_loss = saw_loss or loss is not None or val_loss is not None
            if loss is not None:
                if not math.isfinite(loss):
                    return self._answer("divergence", f"Training diverged at step {step}")
                if len(first) < LEVEL_STEPS:
                    first.append(loss)
                recent.append(loss)
                losses += 1
                if self._is_stuck(step, losses, first, recent):
                    return self._answer("no_learning", f"No learning detected after {step} steps")
            if val_loss is not None and train_loss is not None and train_loss > 0:
                ratio = self.thresholds["overfitting_ratio"]
                if ratio is not None and val_loss > ratio * train_loss:
                    return self._answer("overfitting", f"Severe overfitting detected at step {step}")
        if self.step >= 0 and not saw_loss:
            raise InputError(
                "No item of the stream has 'loss', 'train_loss' or 'val_loss'. Name the loss one of these."
            )
        return "completed"

    def alert(self, message: str) -> None:
        """Log a message as a warning and send it. A target that fails is logged, never raised."""
        channel = shown(self.alert_channel) if "://" in self.alert_channel else self.alert_channel
        logger.warning("failguard: %s: %s", channel, message)
        for failure in self._messenger.send(f"failguard {channel}", message, message):
            logger.warning("failguard: an alert failed: %s", failure)

    def _answer(self, answer: Answer, message: str) -> Answer:
        self.message = message
        self.alert(message)
        return answer

    def _is_stuck(self, step: int, losses: int, first: Sequence[float], recent: Sequence[float]) -> bool:
        after = self.thresholds["no_learning_after_steps"]
        if after is None or step <= after:
            return False
        initial = self.thresholds["initial_loss"]
        if initial is not None:
            return recent[-1] > initial
        if losses < 2 * LEVEL_STEPS:  # the first and the last would be the same ones
            return False
        # Divided first, so that losses near the float limit do not overflow.
        return sum(x / LEVEL_STEPS for x in recent) >= sum(x / LEVEL_STEPS for x in first)


def _items(stream: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    if isinstance(stream, str | bytes | Mapping) or not isinstance(stream, Iterable):
        raise InputError(
            f"The stream is {short(stream)}. Hand in one mapping a step: [{{'loss': 0.9}}, {{'loss': 0.8}}, ...]; for "
            "a dict of series use failguard.analyze."
        )
    return stream


def _checked(thresholds: Any) -> dict[str, float | None]:
    if thresholds is not None and not isinstance(thresholds, Mapping):
        raise ConfigurationError(
            f"thresholds={short(thresholds)} cannot be used: it takes a mapping of names to numbers."
        )
    merged = dict(DEFAULTS)
    for name, value in (thresholds or {}).items():
        if name not in DEFAULTS:
            near = get_close_matches(str(name), DEFAULTS, n=2, cutoff=0.5)
            remedy = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"Allowed: {', '.join(DEFAULTS)}."
            raise ConfigurationError(f"There is no threshold {name!r}. {remedy}")
        if value is None and name == "initial_loss":
            continue
        try:
            number = as_float(value, name)
        except InputError as error:
            raise ConfigurationError(
                f"thresholds[{name!r}]={short(value)} cannot be used: it takes a number."
            ) from error
        least = -math.inf if name == "initial_loss" else 0.0
        if number is None or isinstance(value, bool) or not math.isfinite(number) or number < least:
            kind = "a finite number" if name == "initial_loss" else "a finite number from 0"
            raise ConfigurationError(f"thresholds[{name!r}]={short(value)} cannot be used: it takes {kind}.")
        merged[name] = number
    return merged
