"""Several guards on one trainer: the first watches."""

from __future__ import annotations

from typing import Any

from failguard.adapter import GuardCallback
from failguard.core.log import logger

__all__ = ["watches"]


def watches(guard: GuardCallback, trainer: Any) -> bool:
    """Whether this guard is the one that watches the fit. Others say so and rest.

    A guard that is in the list of callbacks twice is taken out once, or it would see every batch twice.
    """
    guards = [c for c in trainer.callbacks if isinstance(c, GuardCallback)]
    if guards and guards[0] is not guard:
        logger.warning(
            "failguard: this trainer has %d guards, and only the first one watches. Keep one FailGuard in "
            "Trainer(callbacks=[...]); what to do about which finding goes into its policy={code: action}.",
            len(guards),
        )
        return False
    if sum(g is guard for g in guards) > 1:
        logger.warning("failguard: the same FailGuard is in callbacks more than once; it watches once.")
        first = trainer.callbacks.index(guard)
        trainer.callbacks = [c for i, c in enumerate(trainer.callbacks) if c is not guard or i == first]
    return True
