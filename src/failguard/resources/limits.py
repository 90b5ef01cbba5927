"""What a user may limit: how often resources are sampled, and which values are worth a remark."""

from __future__ import annotations

import math
from dataclasses import dataclass

from failguard.errors import ConfigurationError
from failguard.resources.emissions import check_country

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
        price_per_gpu_hour: What one GPU costs for an hour, in any currency; the report then says what the run cost.
        tokens_per_step: Tokens in one batch of one rank, for tokens per second.
        flops_per_step: Floating-point operations of one training step of one rank, such as from Lightning's
            ``measure_flops``, for the share of the card's peak that was used (MFU).
        emissions_country: ISO code of three letters, such as ``"FRA"``: the report then gives the emissions of the
            GPUs' energy by that country's energy mix. Needs the package codecarbon; nothing is asked of the network.
        hang_after_s: Seconds without a finished step after which the run counts as hung; ``None``: learned from the
            run's own pauses, ten minutes at least.
        show_table: Print what the run took as a table at its end, also after a healthy run.

    Raises:
        ConfigurationError: A value cannot be used.
    """

    interval_s: float = 1.0
    max_memory_increase_mb: float | None = None
    min_disk_free_mb: float | None = 1024.0
    price_per_gpu_hour: float | None = None
    tokens_per_step: float | None = None
    flops_per_step: float | None = None
    emissions_country: str | None = None
    hang_after_s: float | None = None
    show_table: bool = False

    def __post_init__(self) -> None:
        if not _is_number(self.interval_s) or not 0.05 <= self.interval_s <= 3600:
            raise ConfigurationError(
                f"interval_s={self.interval_s!r} cannot be used: it takes seconds between samples, 0.05 to 3600."
            )
        if self.emissions_country is not None:
            check_country(self.emissions_country)
        if not isinstance(self.show_table, bool):
            raise ConfigurationError(f"show_table={self.show_table!r} cannot be used: it takes True or False.")
        for name in ("max_memory_increase_mb", "min_disk_free_mb"):
            value = getattr(self, name)
            if value is not None and (not _is_number(value) or not 0 <= value < math.inf):
                raise ConfigurationError(
                    f"{name}={value!r} cannot be used: {name} takes a finite number of MB from 0, or None for no limit."
                )
        for name in ("price_per_gpu_hour", "tokens_per_step", "flops_per_step", "hang_after_s"):
            value = getattr(self, name)
            if value is not None and (not _is_number(value) or not 0 < value < math.inf):
                raise ConfigurationError(
                    f"{name}={value!r} cannot be used: {name} takes a finite number above 0, or None."
                )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
