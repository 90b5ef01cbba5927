"""Libraries of the extra ``[data]``, loaded when they are needed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from failguard.errors import MissingExtraError

__all__ = ["need"]

_PACKAGES = {"sklearn": "scikit-learn"}


def need(module: str) -> Any:
    """Import a module of the extra.

    Args:
        module: Such as ``"scipy.stats"``.

    Raises:
        MissingExtraError: It cannot be imported; the message names the library and the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        root = module.partition(".")[0]
        raise MissingExtraError(
            f"Dataset checks need {_PACKAGES.get(root, root)}, which cannot be imported ({error}). "
            "Install it with: pip install 'failguard-ml[data]'"
        ) from error
