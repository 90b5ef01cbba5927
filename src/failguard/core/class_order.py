"""Whether whole-number targets name classes or measure something: do inputs follow the order of the numbers?"""

from __future__ import annotations

from typing import Any

__all__ = ["ClassOrder"]

MOST_CLASSES = 100
MOST_FEATURES = 4096  # of an input; of larger ones an even sample
MOST_SAMPLES = 4096
LEAST_CLASSES = 5  # with fewer pairs of classes an order may come about by chance
LEAST_OF_A_CLASS = 5  # samples
CLEAR = 3.0  # times the distance that chance gives; below, the inputs tell nothing of the classes
IN_ORDER = 0.5  # correlation of distances and differences


class ClassOrder:
    """Compares how far apart the mean inputs of two classes are with the difference of their numbers.

    Along a line, as of grades, ages or counts, the two grow together. Classes that are only named by numbers lie
    anywhere. Features count in units of their deviation within classes, and what chance adds to a squared distance,
    ``features * (1 / n_i + 1 / n_j)``, is taken off.
    """

    def __init__(self) -> None:
        self._sums: dict[int, Any] = {}
        self._counts: dict[int, int] = {}
        self._squares: Any = None
        self._samples = 0
        self._failed = False

    def add(self, inputs: Any, targets: Any) -> None:
        """Take in one batch.

        Args:
            inputs: Numbers, shape (samples, ...).
            targets: Numbers, as many as samples.
        """
        import numpy as np

        if self._failed or self._samples >= MOST_SAMPLES:
            return
        if inputs.ndim < 2 or inputs.size == 0 or len(inputs) != targets.size or targets.dtype.kind not in "fiub":
            self._failed = True
            return
        rows = inputs.reshape(len(inputs), -1)
        rows = rows[:, :: 1 + rows.shape[1] // MOST_FEATURES].astype(np.float64)
        numbers = targets.reshape(-1)
        fits = self._squares is None or len(self._squares) == rows.shape[1]
        is_whole = bool(np.isfinite(numbers).all()) and bool((numbers == np.round(numbers)).all())
        if not fits or not is_whole or not bool(np.isfinite(rows).all()):
            self._failed = True
            return
        with np.errstate(over="ignore"):
            squares = (rows * rows).sum(axis=0)
        if not bool(np.isfinite(squares).all()):
            self._failed = True
            return
        self._squares = squares if self._squares is None else self._squares + squares
        self._samples += len(rows)
        for c in np.unique(numbers).tolist():
            own = rows[numbers == c]
            self._sums[int(c)] = self._sums.get(int(c), 0.0) + own.sum(axis=0)
            self._counts[int(c)] = self._counts.get(int(c), 0) + len(own)
        self._failed = len(self._counts) > MOST_CLASSES

    def names_classes(self) -> bool | None:
        """Whether the numbers name classes.

        Returns:
            ``False`` where inputs follow their order; ``None`` where the inputs tell too little of either.
        """
        import numpy as np

        kept = sorted(c for c, n in self._counts.items() if n >= LEAST_OF_A_CLASS)
        if self._failed or len(kept) < LEAST_CLASSES:
            return None
        counts = np.asarray([self._counts[c] for c in kept], dtype=np.float64)
        of_all = np.asarray(list(self._counts.values()), dtype=np.float64)
        means = {c: self._sums[c] / self._counts[c] for c in self._counts}
        between = sum(n * means[c] ** 2 for c, n in self._counts.items())
        within = (self._squares - between) / max(of_all.sum() - len(of_all), 1.0)
        varies = within > 1e-12 * np.maximum(self._squares / of_all.sum(), 1e-300)
        if not bool(varies.any()):
            return None
        centres = np.stack([means[c] for c in kept])[:, varies] / np.sqrt(within[varies])
        i, j = np.triu_indices(len(kept), 1)
        squared = ((centres[i] - centres[j]) ** 2).sum(axis=1)
        chance = varies.sum() * (1.0 / counts[i] + 1.0 / counts[j])
        if float(squared.sum()) < CLEAR * float(chance.sum()):
            return None
        apart = np.sqrt(np.maximum(squared - chance, 0.0))
        numbers = np.asarray(kept, dtype=np.float64)
        differences = np.abs(numbers[i] - numbers[j])
        if float(apart.std()) == 0.0 or float(differences.std()) == 0.0:
            return True
        return float(np.corrcoef(apart, differences)[0, 1]) < IN_ORDER
