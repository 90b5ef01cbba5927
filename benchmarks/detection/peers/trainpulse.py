"""trainpulse's monitor, fed as in the full loop of its README."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from benchmarks.detection.peers.feeds import LoopFeed, feed_callbacks
from benchmarks.detection.peers.watch import NON_FINITE, PeerWatch, Words

__all__ = ["WORDS", "watch"]

WORDS: Words = {
    "nan_detector": NON_FINITE,
    "loss_spike": ("loss.spike", "loss.divergence", "loss.oscillation"),
    "gradient:critical": ("gradient.exploding", "gradient.accumulating"),
    "gradient:warning": ("gradient.vanishing", "update.too_small"),
    "learning_rate": ("update.too_large",),
    "plateau": ("loss.plateau", "loss.no_learning"),
}
"""By ``Alert.detector``; its severity tells large gradients from small ones."""

SEVERITIES = {"info": "info", "warning": "warning", "critical": "error"}


class TrainpulseWatch(PeerWatch):
    """Feeds a monitor."""

    def __init__(self) -> None:
        from trainpulse import Monitor

        super().__init__(WORDS)
        self._monitor = Monitor()

    def take_step(self, loss: float | None, gradient_norm: float | None, learning_rate: float | None) -> None:
        """See :class:`~benchmarks.detection.peers.feeds.Receiver`."""
        values = {"loss": loss, "grad_norm": gradient_norm, "learning_rate": learning_rate}
        for name, value in values.items():
            for alert in self._monitor.log(name, self.steps, value) if value is not None else ():
                self.hear(alert)
        self.steps += 1

    def take_epoch(self, metrics: Mapping[str, float]) -> None:
        """Its README logs steps only."""

    def hear(self, alert: Any) -> None:
        """Note an alert."""
        severity = alert.severity.value
        word = f"{alert.detector}:{severity}" if alert.detector == "gradient" else alert.detector
        self.say(word, SEVERITIES[severity], alert.step)

    @contextmanager
    def loop(self, model: Any, optimizer: Any) -> Iterator[Any]:
        """See :class:`~benchmarks.detection.program.Watch`."""
        yield LoopFeed(self, model, optimizer)


def watch(framework: str) -> TrainpulseWatch:
    """A watch for one run."""
    watching = TrainpulseWatch()
    watching.callbacks = feed_callbacks(framework, watching)
    return watching
