"""What to look at in the data of a training, and the same looks beforehand."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from failguard.core.batch_checks import BatchChecks
from failguard.core.codes import check_finding_code
from failguard.core.finding import Finding, Where
from failguard.errors import ConfigurationError, InputError

__all__ = ["DataChecks"]

ARRAY_BATCH = 256  # rows of an array that are looked at together
KEPT_ROWS = 100_000  # of training, that validation rows are compared with
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class DataChecks:
    """How the batches of a training are checked: ``FailGuard(check_data=DataChecks(...))``.

    Batches are looked at as they come, before the step on them ends: the first ones each, then a few. Nothing is
    consumed or reordered.

    Attributes:
        raises: Codes, such as ``"data.non_finite"``, that are errors: training stops and ``TrainingFailure`` is raised
            once the framework has shut down.
        ignore: Codes never to report.
        batches: Batches that :meth:`look_at` reads.

    Raises:
        ConfigurationError: A code does not exist, or ``batches`` is no whole number from 1.
    """

    raises: Sequence[str] = ()
    ignore: Sequence[str] = ()
    batches: int = 16

    def __post_init__(self) -> None:
        for name in ("raises", "ignore"):
            given = getattr(self, name)
            codes = (given,) if isinstance(given, str) else tuple(given)
            object.__setattr__(self, name, tuple(check_finding_code(code) for code in codes))
        if isinstance(self.batches, bool) or not isinstance(self.batches, int) or self.batches < 1:
            raise ConfigurationError(f"batches={self.batches!r} cannot be used: it takes a whole number from 1.")

    def checks(self) -> BatchChecks:
        """New checks of one run."""
        return BatchChecks(self.raises)

    def look_at(self, x: Any, y: Any = None, *, validation: Any = None, classes: int | None = None) -> list[Finding]:
        """Look at data before training. Random streams stay as they are.

        Args:
            x: Arrays or tensors, a mapping or sequence of them; or batches that can be read again: a ``DataLoader``, a
                ``tf.data.Dataset``, a ``keras.utils.PyDataset``, a list of batches.
            y: Targets, where ``x`` are arrays.
            validation: ``(x, y)`` or batches like ``x``. Their rows are looked for among the training rows read.
            classes: Width of the model's output, where targets are class numbers.

        Returns:
            Findings, in the order of the batches. Empty: nothing was seen.

        Raises:
            InputError: An iterator was given, which would be used up.
        """
        found: list[Finding] = []
        checks = self.checks()
        rows: set[int] = set()
        with _random_streams_kept():
            for step, (inputs, targets) in enumerate(self._batches(x, y)):
                found.extend(_non_finite(inputs, targets, step, checks))
                checks.add(inputs, targets, step, 0, classes)
                if len(rows) < KEPT_ROWS:
                    rows.update(_row_hashes(inputs))
            if validation is not None:
                pair = validation if isinstance(validation, tuple) and len(validation) == 2 else (validation, None)
                found.extend(_leaks(rows, self._batches(*pair), checks))
        while (finding := checks.next()) is not None:
            found.append(finding)
        return [f for f in found if f.code not in self.ignore]

    def _batches(self, x: Any, y: Any) -> Iterator[tuple[list[Any], list[Any]]]:
        """The first batches as plain arrays."""
        if hasattr(x, "__next__"):
            raise InputError("An iterator was given: looking at it would use it up. Give what it is made from.")
        if _is_array(x) or isinstance(x, Mapping) or y is not None:
            inputs, targets = _arrays(x), _arrays(y)
            rows = min((len(a) for a in (*inputs, *targets) if a.ndim), default=0)
            for start in range(0, min(rows, self.batches * ARRAY_BATCH), ARRAY_BATCH):
                part = slice(start, start + ARRAY_BATCH)
                yield [a[part] for a in inputs], [a[part] for a in targets]
            return
        if not hasattr(x, "__iter__") and hasattr(x, "__getitem__") and hasattr(x, "__len__"):
            batches: Any = (x[i] for i in range(min(len(x), self.batches)))  # keras.utils.PyDataset
        elif hasattr(x, "num_batches") and hasattr(x, "__getitem__"):
            batches = (x[i] for i in range(min(x.num_batches or self.batches, self.batches)))
        elif hasattr(x, "take") and hasattr(x, "element_spec"):
            batches = x.take(self.batches)  # tf.data.Dataset
        elif hasattr(x, "__iter__"):
            batches = islice(iter(x), self.batches)
        else:
            raise InputError(f"{type(x).__name__} holds no batches. Give arrays, a DataLoader or a dataset.")
        for batch in batches:
            if isinstance(batch, tuple | list) and len(batch) > 1:
                yield _arrays(batch[0]), _arrays(batch[1])
            else:
                yield _arrays(batch), []


def _is_array(x: Any) -> bool:
    return hasattr(x, "__array__") and hasattr(x, "shape")


def _arrays(values: Any, depth: int = 0) -> list[Any]:
    """Every numeric array in a nest of mappings and sequences; text, ragged and sparse ones are left out."""
    import numpy as np

    if values is None or depth > 6:
        return []
    if isinstance(values, Mapping):
        return [a for v in values.values() for a in _arrays(v, depth + 1)]
    if isinstance(values, list | tuple) and not all(isinstance(v, int | float) for v in values):
        return [a for v in values for a in _arrays(v, depth + 1)]
    try:
        array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    except Exception:  # noqa: BLE001 - nothing to look at
        return []
    return [array] if array.dtype.kind in "fiub" and array.ndim else []


def _non_finite(inputs: list[Any], targets: list[Any], step: int, checks: BatchChecks) -> Iterator[Finding]:
    import numpy as np

    for part, arrays in (("input", inputs), ("target", targets)):
        for array in arrays:
            if array.dtype.kind != "f":
                continue
            bad = ~np.isfinite(array)
            if bad.any():
                rows = np.unique(np.nonzero(bad)[0])
                shown = ", ".join(map(str, rows[:EXAMPLES].tolist()))
                yield Finding(
                    "data.non_finite",
                    checks.severity("data.non_finite"),
                    -1,
                    0,
                    f"Batch {step} holds {int(bad.sum()):,} values of NaN or Inf in its {part} (rows {shown}).",
                    Where(tensor=part, batch=step),
                    {"non_finite_values": float(bad.sum()), "rows": float(len(rows))},
                )
                break


def _row_hashes(inputs: list[Any]) -> list[int]:
    rows = min((len(a) for a in inputs), default=0)
    return [hash(tuple(a[i].tobytes() for a in inputs)) for i in range(rows)]


def _leaks(known: set[int], batches: Iterator[tuple[list[Any], list[Any]]], checks: BatchChecks) -> Iterator[Finding]:
    total = inside = 0
    for inputs, _ in batches:
        if any(a.size > len(a) for a in inputs):  # single numbers are equal by chance
            hashes = _row_hashes(inputs)
            total += len(hashes)
            inside += sum(h in known for h in hashes)
    if total and inside >= 3 and inside > 0.01 * total:
        yield Finding(
            "data.leakage",
            checks.severity("data.leakage"),
            -1,
            0,
            f"{inside:,} of {total:,} validation rows looked at are training rows.",
            Where(tensor="input"),
            {"overlap": float(inside), "share": inside / total},
        )


@contextmanager
def _random_streams_kept() -> Iterator[None]:
    """Loaders draw from global streams when they start: put those back."""
    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    stream = torch.get_rng_state() if torch is not None else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if torch is not None:
            torch.set_rng_state(stream)
