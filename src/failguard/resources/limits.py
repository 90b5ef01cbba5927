"""What a user may limit: how often resources are sampled, and which values are worth a remark."""

from __future__ import annotations

import math
from dataclasses import dataclass

from failguard.errors import ConfigurationError

__all__ = ["MB", "ResourceLimits"]

MB = 1024 * 1024
"""Bytes in the megabyte of the limits, as in the source design (``rss / 1024 / 1024``)."""


@dataclass(frozen=True, slots=True)
class ResourceLimits:
    """How resources are sampled, and what is too much. A limit that is crossed is a remark in the report.

    Attributes:
        interval_s: Seconds between two samples, 0.05 to 3,600.
        max_memory_increase_mb: How far the resident memory of the process may grow beyond its size at the start of the
            run, in MB of 1,048,576 bytes; ``None`` for no limit. The source design warns at 10,000.
        min_disk_free_mb: The least free space on the disks that are written to, in MB of 1,048,576 bytes; ``None`` for
            no limit. The default leaves room for one checkpoint of a model of common size.

    Raises:
        ConfigurationError: A value cannot be used.
    """

    interval_s: float = 1.0
    max_memory_increase_mb: float | None = None
    min_disk_free_mb: float | None = 1024.0

    def __post_init__(self) -> None:
        if not _is_number(self.interval_s) or not 0.05 <= self.interval_s <= 3600:
            raise ConfigurationError(
                f"interval_s={self.interval_s!r} cannot be used: it takes seconds between samples, 0.05 to 3600."
            )
        for name in ("max_memory_increase_mb", "min_disk_free_mb"):
            value = getattr(self, name)
            if value is not None and (not _is_number(value) or not 0 <= value < math.inf):
                raise ConfigurationError(
                    f"{name}={value!r} cannot be used: {name} takes a finite number of MB from 0, or None for no limit."
                )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
