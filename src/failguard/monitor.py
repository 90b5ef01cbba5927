"""``resource_monitor``: what any piece of code takes, with a word when it takes too much."""

from __future__ import annotations

import functools
import inspect
import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

from failguard.core.log import logger
from failguard.errors import ConfigurationError
from failguard.resources import ResourceLimits, Sampler
from failguard.resources.limits import MB
from failguard.sinks.messages import Messenger, Target

__all__ = ["resource_monitor"]

F = TypeVar("F", bound=Callable[..., Any])


class resource_monitor:  # noqa: N801 - used as a function: with resource_monitor("wider"): ...
    """Measures memory and time of a block or of each call of a function, and warns when a limit is crossed.

    Example::

        with failguard.resource_monitor("wider", max_memory_increase_mb=10_000, max_duration_s=3_600) as monitor:
            train()
        monitor.peak_increase_mb, monitor.duration_s

        @failguard.resource_monitor("preprocessing")
        def preprocess(): ...

    A limit that is crossed is a warning in the log ``failguard`` and an alert, as soon as it is noticed; the code goes
    on, and its exceptions pass through. Monitors can be nested, used from several threads, and used again. Memory is
    that of the whole process, so whatever else runs in it counts too.

    Args:
        name: What is measured, for messages.
        max_memory_increase_mb: How far memory may grow above its size at the start, in MB of 1,048,576 bytes; ``None``
            for no limit.
        max_duration_s: How long it may take, in seconds; ``None`` for no limit.
        alerts: Notification addresses in Apprise syntax, or callables that take the monitor.
        interval_s: Seconds between two samples.

    Raises:
        ConfigurationError: An argument cannot be used.

    Attributes:
        name: As given.
        exceeded: What was too much, in sentences.
        summary: The whole summary of the sampler, after the end; see :meth:`failguard.resources.Sampler.summary`.
    """

    def __init__(
        self,
        name: str,
        max_memory_increase_mb: float | None = 10_000,
        max_duration_s: float | None = 3_600,
        *,
        alerts: Sequence[Target] = (),
        interval_s: float = 1.0,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"name={name!r} cannot be used: resource_monitor takes a name, such as 'wider'.")
        is_number = isinstance(max_duration_s, int | float) and not isinstance(max_duration_s, bool)
        if max_duration_s is not None and not (is_number and 0 < max_duration_s < math.inf):
            raise ConfigurationError(
                f"max_duration_s={max_duration_s!r} cannot be used: it takes seconds above 0, or None for no limit."
            )
        self._limits = ResourceLimits(
            interval_s=interval_s, max_memory_increase_mb=max_memory_increase_mb, min_disk_free_mb=None
        )
        self._max_duration_s = max_duration_s
        self._alerts = Messenger(alerts) if alerts else None
        self.name = name
        self.exceeded: list[str] = []
        self.summary: dict[str, Any] = {}
        self._sampler: Sampler | None = None
        self._began_at: float | None = None
        self._ended_at: float | None = None
        self._start_bytes: float | None = None
        self._peak_before_bytes: float | None = None
        self._peak_bytes: float | None = None
        self._lock = threading.Lock()

    @property
    def duration_s(self) -> float:
        """Seconds so far, or from start to end; 0 before the start."""
        if self._began_at is None:
            return 0.0
        return max((self._ended_at or monotonic()) - self._began_at, 0.0)

    @property
    def peak_increase_mb(self) -> float | None:
        """How far memory grew above its size at the start, in MB; ``None`` where it cannot be read."""
        if self._start_bytes is None or self._peak_bytes is None:
            return None
        return max(self._peak_bytes - self._start_bytes, 0.0) / MB

    # As a context manager

    def __enter__(self) -> resource_monitor:
        self.exceeded, self.summary = [], {}
        self._ended_at = None
        self._start_bytes = self._peak_bytes = _resident_bytes()
        self._peak_before_bytes = _highest_bytes()
        self._began_at = monotonic()
        self._sampler = Sampler(self._limits, probes={"limits": self._look})
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended_at = monotonic()
        sampler, self._sampler = self._sampler, None
        self._look()
        if sampler is not None:
            sampler.stop()
            self.summary = sampler.summary()

    # As a decorator

    def __call__(self, function: F) -> F:
        """Measure each call of a function, by a monitor of its own."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def measured_async(*args: Any, **kwargs: Any) -> Any:
                with self._anew():
                    return await function(*args, **kwargs)

            return measured_async  # type: ignore[return-value]

        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            with self._anew():
                return function(*args, **kwargs)

        return measured  # type: ignore[return-value]

    def _anew(self) -> resource_monitor:
        return resource_monitor(
            self.name,
            self._limits.max_memory_increase_mb,
            self._max_duration_s,
            alerts=self._alerts.targets if self._alerts is not None else (),
            interval_s=self._limits.interval_s,
        )

    # How it is done

    def _look(self) -> dict[str, float]:
        """Take the memory of now, and warn once of each limit. Also called by the sampler, on its thread."""
        now_bytes, highest_bytes = _resident_bytes(), _highest_bytes()
        before = self._peak_before_bytes
        if highest_bytes is not None and before is not None and highest_bytes > before:
            now_bytes = max(highest_bytes, now_bytes or 0.0)  # the system has seen a peak between two samples
        warnings = []
        with self._lock:
            if now_bytes is not None:
                self._peak_bytes = max(self._peak_bytes or 0.0, now_bytes)
            increase_mb, limit_mb = self.peak_increase_mb, self._limits.max_memory_increase_mb
            if limit_mb is not None and increase_mb is not None and increase_mb > limit_mb:
                warnings.append(f"memory grew by more than max_memory_increase_mb={limit_mb:g}")
            if self._max_duration_s is not None and self.duration_s > self._max_duration_s:
                warnings.append(f"it takes longer than max_duration_s={self._max_duration_s:g}")
            new = [warning for warning in warnings if warning not in self.exceeded]
            self.exceeded += new
        for warning in new:
            self._warn(warning)
        return {}

    def _warn(self, warning: str) -> None:
        grown = self.peak_increase_mb
        so_far = f"{self.duration_s:.1f} s" + (f", {grown:,.0f} MB more than at the start" if grown is not None else "")
        text = f"{self.name}: {warning} ({so_far})."
        logger.warning("failguard: %s", text)
        if self._alerts is not None:
            for failure in self._alerts.send(f"failguard: {self.name}", text, self):
                logger.warning("failguard: the alert could not be sent: %s", failure)


def _resident_bytes() -> float | None:
    try:
        import psutil

        return float(psutil.Process().memory_info().rss)
    except Exception:  # noqa: BLE001 - whatever the platform raises: no reading
        return None


def _highest_bytes() -> float | None:
    """The highest resident memory of this process since it began, as the system counts it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit) if os.name == "posix" else None
