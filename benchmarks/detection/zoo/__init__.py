"""The programs, by framework."""

from __future__ import annotations

from importlib import import_module

__all__ = ["load"]

MODULES = {
    "lightning": (
        "lightning_output",
        "lightning_updates",
        "lightning_values",
        "lightning_data",
        "lightning_taxonomies",
        "lightning_healthy",
        "lightning_awkward",
    ),
    "keras": (
        "keras_output",
        "keras_updates",
        "keras_values",
        "keras_data",
        "keras_taxonomies",
        "keras_healthy",
        "keras_awkward",
    ),
    "torch": ("torch_loops", "torch_taxonomies", "torch_healthy", "torch_awkward"),
}


def load(framework: str) -> None:
    """Register the programs of a framework, which imports it."""
    for name in MODULES[framework]:
        import_module(f"{__name__}.{name}")
