"""Regions of the space of configurations: what was tried before, and what differs between two runs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from failguard.diagnosis.configuration import facts_of
from failguard.diagnosis.wording import number
from failguard.report.plain import plain
from failguard.runs.entry import RunEntry

__all__ = ["changed_values", "region_of", "tells_nothing", "values_of"]

# Values that name, place or seed a run and say nothing of how it learns. The last word of a key decides.
_ENDINGS = frozenset(
    {"seed", "seeds", "path", "paths", "dir", "dirs", "directory", "folder", "file", "files", "filename", "filepath"}
    | {"name", "id", "uuid", "url", "uri", "host", "hostname", "port", "device", "devices", "gpu", "gpus", "workers"}
    | {"verbose", "verbosity", "debug", "logger", "logging", "timestamp", "comment", "description", "ckpt"}
)
_TELLS_NOTHING = _ENDINGS | frozenset(
    {"rng", "random_state", "root", "log", "logs", "rank", "local_rank", "node", "num_nodes", "world_size", "n_jobs"}
    | {"project", "experiment", "user", "author", "tag", "tags", "note", "notes", "hypothesis", "approach", "version"}
    | {"date", "time", "created", "output", "outputs", "checkpoint", "checkpoints", "resume"}
)
_NAMES_A_CHOICE = frozenset({"model_name", "optimizer_name", "opt_name", "dataset_name", "loss_name"})
_PATH = re.compile(r"^(?:[~.]{0,2}[/\\]|[A-Za-z]:[/\\]|[a-z][a-z0-9+.-]*://)")
_SETUP = ("model", "optimizer", "loss", "schedule", "clipping")
_MAX_DEPTH = 8


def tells_nothing(name: str, value: Any) -> bool:
    """Whether a value of a configuration is a seed, a name, a path or the like.

    Args:
        name: Its key; of a nested one the last part counts.
        value: Its value; text that looks like a path or an address tells nothing either.
    """
    last = name.rsplit(".", 1)[-1].lower().replace("-", "_")
    if last in _NAMES_A_CHOICE:
        return False
    if last in _TELLS_NOTHING or last.rsplit("_", 1)[-1] in _ENDINGS:
        return True
    return isinstance(value, str) and _PATH.match(value) is not None


def values_of(entry: RunEntry) -> dict[str, Any]:
    """What a run was made of: its configuration, and what the adapter read of model and optimizer.

    The setup's learning rate and batch size count only where the configuration does not name one.
    """
    found = {k: v for k, v in entry.config.items() if not tells_nothing(k, v)}
    named = facts_of(entry.config)
    known = {
        "optimizer": named.optimizer.name,
        "schedule": named.optimizer.schedule,
        "clipping": named.optimizer.clipping,
        "learning_rate": named.optimizer.learning_rate,
        "batch_size": named.batch_size,
        "model": next((v for k, v in entry.config.items() if k.rsplit(".", 1)[-1].lower() == "model"), None),
    }
    for name in (*_SETUP, "learning_rate", "batch_size"):
        if name in entry.setup and known.get(name) in (None, ""):
            found.setdefault(name, entry.setup[name])
    return found


def region_of(entry: RunEntry) -> str | None:
    """The region of a run's configuration, as a word that is equal for runs of the same region.

    Numbers are told apart by powers of two: ``x`` is in the bucket ``round(log2(abs(x)))`` of its sign, so that 0.1
    and 0.12 are one region, 0.1 and 0.3 are two. Zero has its own. Everything else must be equal, text whatever its
    case. Seeds, names, paths, devices and other values that say nothing of how a run learns are left out.

    Returns:
        ``None`` where nothing is known of the configuration.
    """
    values = values_of(entry)
    if not values:
        return None
    return json.dumps({name: _bucket(value) for name, value in values.items()}, sort_keys=True)


def changed_values(before: RunEntry, after: RunEntry) -> dict[str, tuple[Any, Any]]:
    """What differs between the configurations of two runs.

    Returns:
        Name to the two values, ``None`` for one that is absent. Seeds, names and paths are left out.
    """
    a, b = values_of(before), values_of(after)
    return {n: (a.get(n), b.get(n)) for n in dict.fromkeys((*a, *b)) if _differ(a.get(n), b.get(n))}


def _differ(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return False
    return bool(plain(a) != plain(b))


def _bucket(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _power(value)
    if isinstance(value, str):
        return value.strip().casefold()
    if depth < _MAX_DEPTH and isinstance(value, list | tuple):
        return [_bucket(v, depth + 1) for v in value]
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {str(k): _bucket(v, depth + 1) for k, v in value.items()}
    return str(plain(value))


def _power(value: float) -> str:
    """``"2^-3"`` for 0.12: the nearest power of two."""
    if value == 0:
        return "0"
    try:
        power = math.log2(abs(value))
    except (OverflowError, ValueError):
        return str(value)
    if not math.isfinite(power):
        return number(value)
    return f"{'-' if value < 0 else ''}2^{math.floor(power + 0.5)}"
