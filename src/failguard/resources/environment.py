"""Where a run takes place: versions and hardware. No names of people or hosts, no paths, no environment variables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from failguard._version import __version__
from failguard.resources.machine import total_memory_bytes, usable_cpus

__all__ = ["PACKAGES", "environment", "package_versions"]

PACKAGES = (
    "torch",
    "lightning",
    "pytorch-lightning",
    "keras",
    "tensorflow",
    "jax",
    "numpy",
    "mlflow",
    "mlflow-skinny",
)
"""Distributions whose versions explain most differences between two runs."""

# NVML would tell it everywhere, but loading a driver can take seconds, and this runs on the training thread. Where
# these files do not exist the sampler, which asks NVML on a thread of its own, still names the GPUs.
NVIDIA_GPUS = Path("/proc/driver/nvidia/gpus")


def environment() -> dict[str, Any]:
    """Describe the machine and the software.

    Returns:
        ``failguard`` and ``python`` (versions), ``platform``, ``cpus`` (usable ones, a quota may be a fraction),
        ``memory_bytes``, ``gpus`` (names of NVIDIA cards, on Linux) and ``packages`` (distribution to version). What
        cannot be read is absent.
    """
    import platform

    found: dict[str, Any] = {
        "failguard": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "platform": platform.platform(),
        "cpus": usable_cpus(),
        "memory_bytes": total_memory_bytes(),
        "gpus": _gpu_names() or None,
        "packages": package_versions(),
    }
    return {name: value for name, value in found.items() if value is not None}


def package_versions() -> dict[str, str]:
    """Versions of those of :data:`PACKAGES` that are installed. Imports none of them."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _gpu_names() -> list[str]:
    names = []
    try:
        for folder in sorted(NVIDIA_GPUS.iterdir()):
            for line in (folder / "information").read_text(errors="replace").splitlines():
                label, _, value = line.partition(":")
                if label.strip() == "Model":
                    names.append(value.strip())
    except OSError:  # no driver, or not for this user
        pass
    return names
