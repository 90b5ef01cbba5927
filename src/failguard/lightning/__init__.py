"""FailGuard for Lightning: ``lightning`` and ``pytorch_lightning``."""

from failguard.lightning.callback import FailGuard

__all__ = ["FailGuard"]
