"""The Lightning package that is there: ``lightning`` or ``pytorch_lightning``, whichever is loaded, else installed."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

__all__ = ["callback_base", "package_name"]

# A callback of either works in the trainers of both: they only call hooks.
PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def package_name() -> str:
    """Name of the package to build on.

    Raises:
        ImportError: Neither is installed; the message says what to install.
    """
    for name in PACKAGES:
        if name in sys.modules:
            return name
    for name in PACKAGES:
        try:
            if find_spec(name) is not None:
                return name
        except ImportError:
            continue
    raise ImportError(
        "failguard.lightning needs `lightning` or `pytorch-lightning`. Install one with: pip install lightning"
    )


def callback_base() -> Any:
    """The ``Callback`` class of that package."""
    return import_module(f"{package_name()}.callbacks").Callback
