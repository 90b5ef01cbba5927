"""FailGuard for Lightning: ``lightning`` and ``pytorch_lightning``."""

from failguard.lightning.callback import FailGuard
from failguard.lightning.false_positives import FalsePositives

__all__ = ["FailGuard", "FalsePositives"]
