"""Regions of the space of configurations: what was tried before, and what differs between two runs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from failguard.diagnosis.configuration import facts_of
from failguard.diagnosis.wording import number
from failguard.report.plain import plain
from failguard.runs.compare import Change, changes
from failguard.runs.entry import RunEntry

__all__ = ["Region", "changed_values", "region_of", "tells_nothing"]

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
_SETUP = ("model", "optimizer", "learning_rate", "schedule", "clipping", "loss", "batch_size")
_MAX_DEPTH = 8


@lru_cache(10_000)
def _is_beside_the_point(name: str) -> bool:
    """Whether a key is one of those; the last part decides."""
    last = name.rsplit(".", 1)[-1].lower().replace("-", "_")
    return last not in _NAMES_A_CHOICE and (last in _TELLS_NOTHING or last.rsplit("_", 1)[-1] in _ENDINGS)


@lru_cache(10_000)
def _names_rate(name: str) -> bool:
    return facts_of({name: 1.0}).optimizer.learning_rate is not None


def tells_nothing(name: str, value: Any) -> bool:
    """Whether a value of a configuration is a seed, a name, a path or the like.

    Args:
        name: Its key; of a nested one the last part counts.
        value: Its value; text that looks like a path or an address tells nothing either.
    """
    if _is_beside_the_point(name):
        return True
    is_choice = name.rsplit(".", 1)[-1].lower() in _NAMES_A_CHOICE
    return isinstance(value, str) and not is_choice and _PATH.match(value) is not None


@dataclass(frozen=True, slots=True)
class Region:
    """A region of the space of configurations.

    Attributes:
        config: Equal for configurations of one region.
        setup: The same of the model's and the optimizer's names, as the adapter read them; ``None`` where it did not.
    """

    config: str
    setup: str | None

    def matches(self, other: Region) -> bool:
        """Whether both are one region; a setup that is not known is no difference."""
        unknown = self.setup is None or other.setup is None
        return self.config == other.config and (unknown or self.setup == other.setup)


def region_of(entry: RunEntry) -> Region | None:
    """The region of a run's configuration.

    Numbers are told apart by powers of two: ``x`` is in the bucket ``round(log2(abs(x)))`` of its sign, so that 0.1
    and 0.12 are one region, 0.1 and 0.3 are two. Zero has its own. Everything else must be equal, text whatever its
    case. Seeds, names, paths, devices and other values that say nothing of how a run learns are left out. The names of
    model and optimizer count where the adapter read them, and so does its learning rate where the configuration has
    none.

    Returns:
        ``None`` where nothing is known of the configuration.
    """
    values = {k: v for k, v in entry.config.items() if not tells_nothing(k, v)}
    if "learning_rate" in entry.setup and not any(_names_rate(name) for name in values):
        values.setdefault("learning_rate", entry.setup["learning_rate"])
    names = {name: entry.setup[name] for name in ("model", "optimizer") if entry.setup.get(name)}
    if not values and not names:
        return None
    return Region(_word(values), _word(names) if names else None)


def changed_values(before: RunEntry, after: RunEntry) -> list[Change]:
    """What differs between two runs in what decides how they learn: without seeds, names, paths and the like.

    What the adapter read counts where it read both and no configuration names it.
    """
    found = [c for c in changes(before.config, after.config) if not tells_nothing(c.name, c.after or c.before)]
    told = {word for entry in (before, after) for word in _told_by_config(entry)}
    names = [n for n in _SETUP if n in before.setup and n in after.setup and n not in told]
    return found + changes(*({n: entry.setup[n] for n in names} for entry in (before, after)))


def _told_by_config(entry: RunEntry) -> Iterator[str]:
    """What of the setup the configuration names itself."""
    facts = facts_of(entry.config)
    yield from entry.config
    for name in ("learning_rate", "schedule", "clipping"):
        if getattr(facts.optimizer, name) is not None:
            yield name
    if facts.optimizer.name:
        yield "optimizer"
    if facts.batch_size is not None:
        yield "batch_size"


def _word(values: Mapping[str, Any]) -> str:
    return json.dumps({name: _bucket(value) for name, value in values.items()}, sort_keys=True)


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
