"""What a run uses: CPU, memory, disk and GPU, sampled in the background. Absent means no reading, never 0."""

from failguard.resources.environment import environment
from failguard.resources.limits import ResourceLimits
from failguard.resources.machine import available_memory_bytes
from failguard.resources.run_watch import RunWatch
from failguard.resources.sampler import Sampler

__all__ = ["ResourceLimits", "RunWatch", "Sampler", "available_memory_bytes", "environment"]
