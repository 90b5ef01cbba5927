"""What a run uses: CPU, memory, disk and GPU, sampled in the background."""

from failguard.resources.limits import ResourceLimits

__all__ = ["ResourceLimits"]
