"""The checks of ``failguard doctor``. None of them imports a framework."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

__all__ = ["Check", "State", "check_alerts", "run_checks"]

NEEDED = ("numpy", "psutil", "nvidia-ml-py", "mlflow-skinny", "sqlalchemy", "alembic", "rich", "jinja2", "matplotlib")
FRAMEWORKS = ("torch", "lightning", "pytorch-lightning", "keras", "tensorflow", "jax")
COMPROMISED = {"lightning": ("2.6.2", "2.6.3"), "pytorch-lightning": ("2.6.2", "2.6.3")}
LEAST_FREE_BYTES = 1 << 30  # as the default of ResourceLimits.min_disk_free_mb


class State(str, Enum):
    """How a check ended."""

    OK = "ok"
    ABSENT = "absent"  # and not needed
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the result.

    Attributes:
        name: What was looked at.
        state: How it ended.
        detail: What was found.
        remedy: What to do, ``""`` where nothing.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""


def run_checks(record_dir: str) -> list[Check]:
    """Look at everything.

    Args:
        record_dir: Where local records are to go.
    """
    return [*_software(), *_frameworks(), *_gpus(), _store(), _records(record_dir), *_switch()]


def check_alerts(addresses: list[str]) -> list[Check]:
    """Send a test message to each address.

    Args:
        addresses: In Apprise syntax.
    """
    from failguard.errors import ConfigurationError
    from failguard.sinks.messages import Messenger, shown

    checks = []
    for address in addresses:
        name = f"alert to {shown(address)}"
        try:
            failures = Messenger([address]).send("failguard: test", "This is a test of alerts; nothing failed.", None)
        except ConfigurationError as error:
            checks.append(Check(name, State.BROKEN, "cannot be used", str(error)))
            continue
        detail = f"was not sent: {failures[0]}" if failures else "a test message was sent"
        remedy = "Check the address and that this machine can reach the service." if failures else ""
        checks.append(Check(name, State.BROKEN if failures else State.OK, detail, remedy))
    return checks


def _software() -> Iterator[Check]:
    from failguard.resources import environment

    known = environment()
    memory = known.get("memory_bytes")
    hardware = f"{known['platform']}, {known.get('cpus', 0):g} usable CPUs"
    if memory is not None:
        hardware += f", {memory / 2**30:.1f} GiB of memory"
    yield Check("failguard", State.OK, f"{known['failguard']} on Python {known['python']}")
    yield Check("machine", State.OK, hardware)
    missing = [name for name in NEEDED if _version(name) is None]
    if missing:
        yield Check("dependencies", State.BROKEN, f"missing: {', '.join(missing)}", "pip install failguard-ml")


def _frameworks() -> Iterator[Check]:
    found = {name: version for name in FRAMEWORKS if (version := _version(name)) is not None}
    for name in FRAMEWORKS:
        version = found.get(name)
        if version is None:
            yield Check(name, State.ABSENT, "not installed")
        elif version in COMPROMISED.get(name, ()):
            yield Check(name, State.BROKEN, f"{version} is a compromised release", f"pip install '{name}!={version}'")
        elif name.endswith("lightning") and "torch" not in found:
            yield Check(name, State.BROKEN, f"{version}, but torch is not installed", "pip install torch")
        elif name == "keras" and version.split(".")[0] in ("1", "2"):
            yield Check(name, State.BROKEN, f"{version}: failguard.keras needs Keras 3", "pip install 'keras>=3.3'")
        elif name == "keras" and not {"torch", "tensorflow", "jax"} & found.keys():
            yield Check(name, State.BROKEN, f"{version}, but no backend is installed", "pip install tensorflow")
        else:
            yield Check(name, State.OK, version)
    if not {"torch", "lightning", "pytorch-lightning", "keras"} & found.keys():
        yield Check(
            "frameworks",
            State.WARNING,
            "none that failguard can watch",
            "pip install 'failguard-ml[lightning]' or 'failguard-ml[keras]'; failguard analyze works without",
        )


def _gpus() -> Iterator[Check]:
    from failguard.resources.nvml import GpuReadings

    readings = GpuReadings()
    try:
        for gpu, values in zip(readings.gpus, readings.read(), strict=True):
            used, total = values.get("memory_used_bytes"), values.get("memory_total_bytes")
            memory = f", {used / 2**30:.1f} of {total / 2**30:.1f} GiB used" if used is not None and total else ""
            yield Check(f"gpu {gpu.index}", State.OK, f"{gpu.name or 'unnamed'}{memory}")
        if readings.problem is not None:
            yield Check("gpu", State.WARNING, readings.problem, "GPU numbers will be missing from reports.")
        elif not readings.gpus:
            hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
            why = f" (CUDA_VISIBLE_DEVICES={hidden!r})" if hidden is not None else ""
            yield Check("gpu", State.ABSENT, f"no NVIDIA GPU for this process{why}")
        torch = _version("torch")
        if readings.gpus and torch is not None and torch.endswith("+cpu"):
            yield Check(
                "torch devices",
                State.WARNING,
                f"torch {torch} is a CPU build and leaves the GPU idle",
                "Install a CUDA build: https://pytorch.org/get-started/locally",
            )
    finally:
        readings.close()


def _store() -> Check:
    from failguard.sinks.mlflow_read import check_store

    version = _version("mlflow") or _version("mlflow-skinny") or "not installed"
    check = check_store()
    state = State.OK if check.usable else State.BROKEN
    return Check("mlflow store", state, f"{check.uri} {check.detail} (MLflow {version})".strip(), check.remedy)


def _records(record_dir: str) -> Check:
    from failguard.resources.process import free_bytes

    folder = os.path.abspath(os.path.expanduser(record_dir))
    existing = folder
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    remedy = "Set record_dir to a folder that can be written."
    try:
        with tempfile.TemporaryFile(dir=existing):  # permissions alone do not tell of a read-only disk
            pass
    except OSError as error:
        return Check("record folder", State.BROKEN, f"{record_dir} cannot be written: {error.strerror}", remedy)
    free = free_bytes(existing)
    if free is not None and free < LEAST_FREE_BYTES:
        return Check(
            "record folder", State.WARNING, f"{record_dir}: only {free / 2**20:.0f} MiB are free", "Free some space."
        )
    return Check("record folder", State.OK, f"{record_dir} can be written")


def _switch() -> Iterator[Check]:
    value = os.environ.get("FAILGUARD_DISABLE")
    if value:
        yield Check(
            "FAILGUARD_DISABLE", State.WARNING, f"is {value!r}: it can turn every guard off", "Unset it to watch runs."
        )


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None
