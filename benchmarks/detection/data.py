"""Small data: what scikit-learn bundles, and synthetic sets. Everything depends on the seed only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = [
    "Split",
    "blobs",
    "breast_cancer",
    "diabetes",
    "digits",
    "pairs",
    "regression",
    "sequences",
    "sine",
    "spirals",
    "standardized",
    "tokens",
    "wine",
]

Array = np.ndarray


class Split(NamedTuple):
    """Training and validation rows."""

    x: Array
    y: Array
    xv: Array
    yv: Array

    def with_(self, **parts: Array) -> Split:
        """A copy with other parts."""
        return self._replace(**parts)


def _split(x: Array, y: Array, seed: int, validation: float = 0.25) -> Split:
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = x[order].astype("float32"), y[order]
    y = y.astype("float32" if y.dtype.kind == "f" else "int64")
    n = int(len(x) * (1 - validation))
    return Split(x[:n], y[:n], x[n:], y[n:])


def standardized(data: Split, *, targets: bool = False) -> Split:
    """Features (and targets) with mean 0 and deviation 1 on the training rows."""
    mean, deviation = data.x.mean(0), data.x.std(0) + 1e-6
    data = data.with_(x=(data.x - mean) / deviation, xv=(data.xv - mean) / deviation)
    if targets:
        mean, deviation = data.y.mean(), data.y.std()
        data = data.with_(y=(data.y - mean) / deviation, yv=(data.yv - mean) / deviation)
    return data


def digits(seed: int, *, images: bool = False, raw: bool = False) -> Split:
    """1,797 handwritten digits of 64 pixels in 0 to 1, ten classes. Raw: 0 to 255."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = x / 16 * (255 if raw else 1)
    return _split(x.reshape(-1, 8, 8) if images else x, y, seed)


def breast_cancer(seed: int, *, raw: bool = False) -> Split:
    """569 rows of 30 features, two classes."""
    from sklearn.datasets import load_breast_cancer

    data = _split(*load_breast_cancer(return_X_y=True), seed)
    return data if raw else standardized(data)


def wine(seed: int, *, raw: bool = False) -> Split:
    """178 rows of 13 features, three classes."""
    from sklearn.datasets import load_wine

    data = _split(*load_wine(return_X_y=True), seed)
    return data if raw else standardized(data)


def diabetes(seed: int, *, raw: bool = False) -> Split:
    """442 rows of 10 features, a target of 25 to 346. Raw: features in their units, target as it is."""
    from sklearn.datasets import load_diabetes

    data = _split(*load_diabetes(return_X_y=True, scaled=not raw), seed)
    return data if raw else standardized(data, targets=True)


def blobs(seed: int, n: int = 1200, features: int = 20, classes: int = 4, spread: float = 1.5) -> Split:
    """Gaussian clouds, one a class; the larger the spread the more they overlap."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, features))
    y = rng.integers(0, classes, n)
    return _split(centres[y] + spread * rng.normal(size=(n, features)), y, seed)


def regression(seed: int, n: int = 1200, features: int = 12, noise: float = 0.1) -> Split:
    """A smooth function of a few features with Gaussian noise; target of mean 0 and deviation about 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features))
    w = rng.normal(size=features) / np.sqrt(features)
    y = x @ w + 0.5 * np.sin(2 * x[:, 0]) + noise * rng.normal(size=n)
    return _split(x, (y - y.mean()) / y.std(), seed)


def sine(seed: int, n: int = 800) -> Split:
    """One input in -3 to 3, its sine with a little noise."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-3, 3, (n, 1))
    return _split(x, np.sin(2 * x[:, 0]) + 0.05 * rng.normal(size=n), seed)


def sequences(seed: int, n: int = 1000, length: int = 20, features: int = 4) -> Split:
    """Random walks; the class is whether the first feature ends above where it was in the middle."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, length, features)).cumsum(1) / 3
    return _split(x, (x[:, -1, 0] > x[:, length // 2, 0]).astype(int), seed)


def tokens(seed: int, n: int = 1500, length: int = 12, vocabulary: int = 200) -> Split:
    """Sentences of word numbers; the class is the topic that most words belong to (a third of the vocabulary each)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    on_topic = rng.random((n, length)) < 0.5
    third = vocabulary // 3
    own = y[:, None] * third + rng.integers(0, third, (n, length))
    x = np.where(on_topic, own, rng.integers(0, vocabulary, (n, length)))
    split = _split(x, y, seed)
    return split.with_(x=split.x.astype("int64"), xv=split.xv.astype("int64"))


def spirals(seed: int, n: int = 1000, noise: float = 0.08) -> Split:
    """Two arms of a spiral."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    t = np.sqrt(rng.random(n)) * 2.5 * np.pi
    angle = t + np.pi * y
    x = np.stack([t * np.cos(angle), t * np.sin(angle)], axis=1) / 5 + noise * rng.normal(size=(n, 2))
    return _split(x, y, seed)


def pairs(x: Array, y: Array, seed: int) -> tuple[Array, Array]:
    """Pairs of rows, shape (n, 2, features), and whether their classes agree; one in forty is twice the same row."""
    rng = np.random.default_rng(seed)
    other = rng.permutation(len(x))
    alike = rng.random(len(x)) < 0.4
    for i in np.flatnonzero(alike):
        other[i] = rng.choice(np.flatnonzero(y == y[i]))
    twice = rng.random(len(x)) < 0.025
    other[twice] = np.flatnonzero(twice)
    return np.stack([x, x[other]], axis=1), (y == y[other]).astype("int64")
