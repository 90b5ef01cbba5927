"""What to look at in the data of a training, and the same looks beforehand."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any

from failguard.core.batch_checks import BatchChecks
from failguard.core.batch_values import EXAMPLES, BadValues, bad_values
from failguard.core.codes import check_finding_code
from failguard.core.finding import Finding
from failguard.errors import ConfigurationError, InputError

__all__ = ["DataChecks"]

ARRAY_BATCH = 256  # rows of an array that are looked at together
CHUNK_ELEMENTS = 1 << 22  # of an array, looked at for NaN and Inf between two looks at the clock


@dataclass(frozen=True, slots=True)
class DataChecks:
    """How the batches of a training are checked: ``FailGuard(check_data=DataChecks(...))``.

    Batches are looked at as they come, before the step on them in PyTorch and Lightning, after it in Keras: each of the
    first 16, then one now and then to the end of the run. Nothing is consumed or reordered. Validation batches are
    compared with them in Lightning, and in Keras where the validation is on arrays. Data that a Lightning fit holds as
    tensors are looked at before the first step.

    Attributes:
        raises: Codes, such as ``"data.non_finite"``, that are errors: training stops and ``TrainingFailure`` is raised
            once the framework has shut down.
        ignore: Codes never to report.
        batches: Batches that :meth:`look_at` reads at most.
        seconds: Time that looks before training may take, from the first batch on: no more are read after it.

    Raises:
        ConfigurationError: A code does not exist, ``batches`` is no whole number from 1, or ``seconds`` no number
            above 0.
    """

    raises: Sequence[str] = ()
    ignore: Sequence[str] = ()
    batches: int = 16
    seconds: float = 2.0

    def __post_init__(self) -> None:
        for name in ("raises", "ignore"):
            given = getattr(self, name)
            codes = (given,) if isinstance(given, str) else tuple(given)
            object.__setattr__(self, name, tuple(check_finding_code(code) for code in codes))
        if isinstance(self.batches, bool) or not isinstance(self.batches, int) or self.batches < 1:
            raise ConfigurationError(f"batches={self.batches!r} cannot be used: it takes a whole number from 1.")
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, int | float) or not self.seconds > 0:
            raise ConfigurationError(f"seconds={self.seconds!r} cannot be used: it takes a number above 0.")

    def checks(self, *, rows_a_batch: int | None = None) -> BatchChecks:
        """New checks of one run; see :class:`~failguard.core.batch_checks.BatchChecks`."""
        return BatchChecks(self.raises, self.ignore, rows_a_batch=rows_a_batch)

    def look_at(self, x: Any, y: Any = None, *, validation: Any = None, classes: int | None = None) -> list[Finding]:
        """Look at data before training. Random streams stay as they are.

        Args:
            x: Arrays or tensors, a mapping or sequence of them; or batches that can be read again: a ``DataLoader``, a
                ``tf.data.Dataset``, a ``keras.utils.PyDataset``, a list of batches.
            y: Targets, where ``x`` are arrays.
            validation: ``(x, y)`` or batches like ``x``. Their rows are looked for among the training rows read.
            classes: Width of the model's output, where targets are class numbers.

        Returns:
            Findings. Those of batches name the batch and its rows; those of arrays the rows of the data. Empty:
            nothing was seen.

        Raises:
            InputError: An iterator was given, which would be used up.
        """
        is_arrays = _are_arrays(x, y)
        checks = self.checks(rows_a_batch=ARRAY_BATCH if is_arrays else None)
        with _random_streams_kept():
            rows = None
            if is_arrays:
                inputs, targets = _arrays(x), _arrays(y)
                rows = _rows(inputs)
                self.look_through(checks, inputs, targets)
                batches: Iterable[tuple[list[Any], list[Any]]] = _slices(inputs, targets)
            else:
                batches = self._batches(x)
            for step, (inputs, targets) in enumerate(self._in_time(batches)):
                checks.add(inputs, targets, step, 0, classes)
            if validation is not None:
                vx, vy = validation if isinstance(validation, tuple) and len(validation) == 2 else (validation, None)
                if _are_arrays(vx, vy):
                    checks.add_rows(_arrays(vx), validation=True)
                else:
                    for inputs, _ in self._in_time(self._batches(vx)):
                        checks.add_validation(inputs)
                checks.compare(rows, -1, 0)
        return checks.take()

    def look_through(self, checks: BatchChecks, inputs: Sequence[Any], targets: Sequence[Any]) -> None:
        """Look at the rows of the data that batches are made from: all of them for NaN and Inf, as far as time allows.

        A sample of them is taken in for the comparison with validation rows.

        Args:
            checks: Is told.
            inputs: Arrays, the samples first.
            targets: The same.
        """
        until = perf_counter() + self.seconds
        for part, arrays in (("input", inputs), ("target", targets)):
            for array in arrays:
                bad = _look_through(array, until)
                if bad is not None:
                    checks.say_bad_values(part, bad, -1, 0)
        checks.add_rows(inputs)

    def _in_time(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The first of them, until the time is up. The time of the first one is its own: it may start workers."""
        until = None
        for batch in islice(batches, self.batches):
            now = perf_counter()
            until = now + self.seconds if until is None else until
            yield batch
            if perf_counter() > until:
                return

    def _batches(self, x: Any) -> Iterator[tuple[list[Any], list[Any]]]:
        """Batches as plain arrays."""
        if not hasattr(x, "__iter__") and hasattr(x, "__getitem__") and hasattr(x, "__len__"):
            batches: Any = (x[i] for i in range(len(x)))  # keras.utils.PyDataset
        elif hasattr(x, "num_batches") and hasattr(x, "__getitem__"):
            batches = (x[i] for i in range(x.num_batches or self.batches))
        elif hasattr(x, "take") and hasattr(x, "element_spec"):
            batches = x.take(self.batches)  # tf.data.Dataset
        elif hasattr(x, "__iter__"):
            batches = iter(x)
        else:
            raise InputError(f"{type(x).__name__} holds no batches. Give arrays, a DataLoader or a dataset.")
        for batch in batches:
            if isinstance(batch, tuple | list) and len(batch) > 1:
                yield _arrays(batch[0]), _arrays(batch[1])
            else:
                yield _arrays(batch), []


def _are_arrays(x: Any, y: Any) -> bool:
    """Whether data are arrays rather than batches.

    Raises:
        InputError: They are an iterator.
    """
    if hasattr(x, "__next__"):
        raise InputError("An iterator was given: looking at it would use it up. Give what it is made from.")
    return (hasattr(x, "__array__") and hasattr(x, "shape")) or isinstance(x, Mapping) or y is not None


def _rows(arrays: list[Any]) -> int:
    return min((len(a) for a in arrays if a.ndim), default=0)


def _slices(inputs: list[Any], targets: list[Any]) -> Iterator[tuple[list[Any], list[Any]]]:
    """Consecutive rows of arrays."""
    for start in range(0, _rows([*inputs, *targets]), ARRAY_BATCH):
        part = slice(start, start + ARRAY_BATCH)
        yield [a[part] for a in inputs], [a[part] for a in targets]


def _look_through(array: Any, until: float) -> BadValues | None:
    """Values of NaN and Inf in an array, piece by piece until the time is up."""
    rows_a_piece = max(1, CHUNK_ELEMENTS * len(array) // max(array.size, 1)) if array.ndim else 1
    count = rows = 0
    first: list[int] = []
    for start in range(0, len(array), rows_a_piece) if array.ndim and array.dtype.kind == "f" else ():
        bad = bad_values(array[start : start + rows_a_piece])
        if bad is not None:
            count, rows = count + (bad.count or 0), rows + bad.rows
            first += [start + row for row in bad.first]
        if perf_counter() > until:
            break
    return BadValues(count, rows, tuple(first[:EXAMPLES])) if count else None


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
