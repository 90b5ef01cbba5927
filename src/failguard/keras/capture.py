"""Keeps the start of a fit and its first batches, and writes them when the fit failed."""

from __future__ import annotations

import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from failguard.core.capsule import BATCHES_BYTES, MODEL_SHARE, WINDOW_STEPS, CapsuleInfo, CapsuleRefused, write_info
from failguard.core.facts import Facts
from failguard.core.history import Series
from failguard.keras.snapshot import BestWeights
from failguard.resources import available_memory_bytes

__all__ = ["Capture"]

MODEL, OBJECTS, STEPS = "model.keras", "objects.pkl", "steps.pkl"


class Capture:
    """Holds the model at the start of a fit, its first batches, and the one that failed.

    Later weights are not kept: what Keras can load again is a file of the whole model.

    Raises:
        CapsuleRefused: The model cannot be saved, or is too large.

    Attributes:
        wants_batch: Batches are to be handed to :meth:`see`.
    """

    def __init__(self, model: Any, facts: Facts, step: int) -> None:
        """Args:
        model: Compiled and built.
        facts: Of the run.
        step: Index of the first batch.
        """
        self._facts = facts
        self._step = step
        size, free = BestWeights(model).size_bytes, available_memory_bytes()
        if free is not None and size > MODEL_SHARE * free:
            raise CapsuleRefused(
                f"a copy of the model takes {size / 1e6:,.0f} MB, more than {MODEL_SHARE:.0%} of the free memory"
            )
        self._model = _saved(model)
        self._objects = _pickled(_own_objects(model))
        self._kept: list[tuple[int, Any]] = []
        self._failing: tuple[int, Any] | None = None
        self._bytes = 0
        self.wants_batch = True
        self.notes: list[str] = []

    def see(self, batch: Any, step: int) -> None:
        """The newest batch.

        Args:
            batch: As ``train_step`` got it; ``None`` where it is not kept.
            step: Its index over the run.
        """
        if batch is None:
            self.wants_batch = False
            self.notes.append("Batches are not seen, as under XLA with several steps a call.")
            return
        plain = _arrays(batch)
        size = sum(leaf.nbytes for leaf in keras.tree.flatten(plain) if isinstance(leaf, np.ndarray))
        if self._bytes + size > BATCHES_BYTES // 2:
            self.wants_batch = False
            return
        self._bytes += size
        self._kept.append((step, plain))
        self.wants_batch = len(self._kept) < WINDOW_STEPS

    def see_failing(self, batch: Any, step: int) -> None:
        """The batch of a value that is not finite."""
        self.wants_batch = False
        if batch is not None and all(step != known for known, _ in self._kept):
            self._failing = step, _arrays(batch)

    def write(self, folder: Path, losses: Series, failed_step: int | None) -> CapsuleInfo:
        """Write the capsule.

        Args:
            folder: Made when needed.
            losses: Of each batch, to compare with.
            failed_step: Step of the first finding at error or above.

        Returns:
            What is in it.

        Raises:
            CapsuleRefused: No batch was seen.
            OSError: It cannot be written.
        """
        kept = [*self._kept, *([self._failing] if self._failing is not None else [])]
        if not kept:
            raise CapsuleRefused(" ".join(["no batch was kept.", *self.notes]).rstrip("."))
        known = dict(zip(losses.steps.tolist(), losses.values.tolist(), strict=True))
        batches = [{"step": step, "batch": batch, "loss": known.get(step)} for step, batch in kept]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL).write_bytes(self._model)
        (folder / OBJECTS).write_bytes(self._objects)
        (folder / STEPS).write_bytes(pickle.dumps({"moments": [{"step": self._step, "batches": batches}]}))
        info = CapsuleInfo(
            framework="keras",
            failed_step=failed_step,
            moments=[{"step": self._step, "batches": len(batches)}],
            backend=keras.backend.backend(),
            search_path=[str(Path(p or ".").absolute()) for p in sys.path],
            versions=dict(self._facts.versions),
            notes=self.notes,
        )
        write_info(folder, info)
        return info


def _saved(model: Any) -> bytes:
    with tempfile.TemporaryDirectory(prefix="failguard_capture_") as folder:
        path = Path(folder) / MODEL
        try:
            keras.saving.save_model(model, path)
        except Exception as error:  # saving runs code of the user's: anything may be raised
            raise CapsuleRefused(
                f"Keras cannot save the model ({type(error).__name__}: {str(error)[:200]}). Give its own layers a "
                "get_config()"
            ) from error
        return path.read_bytes()


def _own_objects(model: Any) -> dict[str, Any]:
    """Classes and functions in the model that are none of Keras', by name. The file of a model only names them."""
    found: dict[str, Any] = {}
    kinds = [type(layer) for layer in model._flatten_layers()]
    functions = [model.loss, *_listed(getattr(model, "_compile_metrics", None)), *_listed(model.optimizer)]
    for part in [*kinds, *keras.tree.flatten(functions)]:
        thing = part if isinstance(part, type) or callable(getattr(part, "__code__", None)) else None
        if thing is None:
            thing = part if hasattr(part, "__name__") else type(part)
        if not (getattr(thing, "__module__", None) or "").startswith(("keras.", "builtins")):
            found[thing.__name__] = thing
    for layer in model._flatten_layers():
        activation = getattr(layer, "activation", None)
        if callable(activation) and not (getattr(activation, "__module__", None) or "keras.").startswith("keras"):
            found[getattr(activation, "__name__", "activation")] = activation
    return found


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    metrics = getattr(value, "_user_metrics", value)
    return list(metrics) if isinstance(metrics, list | tuple) else [metrics]


def _pickled(objects: dict[str, Any]) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(objects))
    except Exception as error:  # anything may be raised
        raise CapsuleRefused(
            f"{', '.join(objects)} cannot be stored ({type(error).__name__}: {str(error)[:200]})"
        ) from error


def _arrays(batch: Any) -> Any:
    """A copy in host memory."""
    return keras.tree.map_structure(
        lambda leaf: None if leaf is None else np.array(keras.ops.convert_to_numpy(leaf)), batch
    )
