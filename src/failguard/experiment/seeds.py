"""One seed for every generator of random numbers that is loaded."""

from __future__ import annotations

import random
import sys

from failguard.errors import ConfigurationError

__all__ = ["check_seed", "set_seed"]

MAX_SEED = 2**32 - 1  # NumPy's


def check_seed(seed: object) -> int | None:
    """The seed, if it can be used.

    Raises:
        ConfigurationError: It is no whole number from 0 to 2**32 - 1.
    """
    if seed is None:
        return None
    try:
        number = seed.__index__()  # type: ignore[attr-defined]  # also NumPy's integers
    except AttributeError:
        number = -1
    if isinstance(seed, bool) or not 0 <= number <= MAX_SEED:
        raise ConfigurationError(
            f"seed={seed!r} cannot be used: it takes a whole number from 0 to {MAX_SEED}, or None."
        )
    return int(number)


def set_seed(seed: int) -> None:
    """Seed Python's ``random``, and NumPy, torch, TensorFlow and Keras where they are loaded. JAX has explicit keys."""
    random.seed(seed)
    for name, path in (
        ("numpy", "random.seed"),
        ("torch", "manual_seed"),  # all devices
        ("tensorflow", "random.set_seed"),
        ("keras", "utils.set_random_seed"),
    ):
        function: object = sys.modules.get(name)
        for part in path.split("."):
            function = getattr(function, part, None)
        if callable(function):
            function(seed)
