"""Keeps what it takes to train the first and the last steps of a run once more, and writes it when the run failed."""

from __future__ import annotations

import copy
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from failguard.core.capsule import BATCHES_BYTES, MODEL_SHARE, WINDOW_STEPS, CapsuleInfo, CapsuleRefused, write_info
from failguard.core.facts import Facts
from failguard.core.history import Series
from failguard.resources import available_memory_bytes
from failguard.torch.batches import mapped, tensors
from failguard.torch.hooks import TracelessHook
from failguard.torch.protect import random_state
from failguard.torch.snapshot import named_tensors

__all__ = ["Capture", "Kept", "Moment"]

MODEL, STEPS = "model.pt", "steps.pt"
PLAIN = (bool, int, float, str, tuple, type(None))


@dataclass(slots=True)
class Kept:
    """A batch and what else an update depends on.

    Attributes:
        step: Its index over the run.
        batch: A copy.
        random: State of torch's streams before its forward pass, where the model draws from them.
        groups: For each optimizer the settings of its parameter groups at this step, such as the learning rate.
        size_bytes: Of the tensors in the batch.
    """

    step: int
    batch: Any
    random: tuple[Tensor, Tensor | None] | None
    groups: list[list[dict[str, Any]]]
    size_bytes: int


@dataclass(slots=True)
class Moment:
    """A step that training can be taken up from, with the batches from there on.

    Attributes:
        step: Index of the first batch.
        weights, optimizers: Copies, on their own device; ``None`` for the start of the run, which is stored as a whole.
        streams: States of the random streams of Python, NumPy and torch.
        kept: The batches.
    """

    step: int
    weights: dict[str, Tensor] | None = None
    optimizers: list[dict[str, Any]] | None = None
    streams: dict[str, Any] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """Of the batches."""
        return sum(kept.size_bytes for kept in self.kept)


class Capture:
    """Holds the start of a run with its first batches, and a moving window over the newest ones.

    Of the moving window there are two, each with the weights and the optimizer's state at its first batch: when the
    newer one is full, the older one gives way. So a failure has between 32 and 64 steps of lead before it, where memory
    allows. Copies stay on the device of the model: nothing waits for it.

    Raises:
        CapsuleRefused: Model or optimizer cannot be stored, or are too large.

    Attributes:
        wants_batch: Batches are to be handed to :meth:`see`.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizers: Sequence[Any],
        facts: Facts,
        *,
        step: int = 0,
        loss_fn: Callable[..., Any] | None = None,
    ) -> None:
        """Args:
        module: The user's own model, or the Lightning module, before the first update.
        optimizers: Those that train it.
        facts: Of the run.
        step: Index of the first batch.
        loss_fn: Takes the model and a batch and gives the loss; ``None``: the module's own, or one that is found out.
        """
        self._module = module
        self._optimizers = [getattr(o, "optimizer", o) for o in optimizers]
        if not self._optimizers:
            raise CapsuleRefused("no optimizer is known. Give it to the guard: FailGuard(model, optimizer, ...)")
        self._facts = facts
        self._room_bytes = _room_bytes(module)
        size = _bytes_of(named_tensors(module).values())
        if size > self._room_bytes:
            raise CapsuleRefused(
                f"a copy of the model takes {size / 1e6:,.0f} MB, more than {MODEL_SHARE:.0%} of the free memory"
            )
        self._start_blob = _stored({"module": module, "optimizers": self._optimizers, "loss_fn": loss_fn})
        self._start = Moment(step, streams=_streams())
        self._recent: list[Moment] = []
        self.wants_batch = True
        self.notes: list[str] = []
        self._before: tuple[Tensor, Tensor | None] | None = None
        self._hook: Any = None
        # In a loop of the user's own nobody says when a forward pass begins, and loaders draw random numbers too.
        if facts.framework == "torch" and facts.model.dropout is not None:
            self._hook = module.register_forward_pre_hook(TracelessHook(self._before_forward))

    def see(self, batch: Any, step: int, before: tuple[Tensor, Tensor | None] | None) -> None:
        """The next batch. Weights and optimizer are as they are before its update.

        Args:
            batch: Of any structure; ``None`` where it is not known.
            step: Its index over the run.
            before: State of torch's random streams before its forward pass, where that was kept.
        """
        if batch is None:
            self.wants_batch = False
            self.notes.append("Batches are not known: call guard.step(loss=loss, batch=batch).")
            return
        moment = self._moment(step, _bytes_of(tensors(batch)))
        if moment is None:
            return
        before = self._before if self._hook is not None else before
        groups = [[_plain_settings(g) for g in o.param_groups] for o in self._optimizers]
        moment.kept.append(Kept(step, _copied(batch), before, groups, _bytes_of(tensors(batch))))

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
        moments = [m for m in (self._start, *self._recent) if m.kept]
        if not moments:
            raise CapsuleRefused(" ".join(["no batch was kept.", *self.notes]).rstrip("."))
        known = dict(zip(losses.steps.tolist(), losses.values.tolist(), strict=True))
        if len(losses) > len(known):
            first = self._start.step
            known |= {first + i: loss for i, loss in enumerate(losses.first(WINDOW_STEPS).tolist())}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL).write_bytes(self._start_blob)
        (folder / STEPS).write_bytes(_stored({"moments": [_as_plain(m, known) for m in moments]}))
        info = CapsuleInfo(
            framework=self._facts.framework,
            failed_step=failed_step,
            moments=[{"step": m.step, "batches": len(m.kept)} for m in moments],
            accumulate_batches=self._facts.accumulate_batches,
            clipping=self._facts.optimizer.clipping,
            search_path=[str(Path(p or ".").absolute()) for p in sys.path],
            versions=dict(self._facts.versions),
            notes=self.notes,
        )
        write_info(folder, info)
        return info

    def close(self) -> None:
        """Keep nothing more."""
        self.wants_batch = False
        if self._hook is not None:
            self._hook.remove()

    # How it is done

    def _before_forward(self, module: nn.Module, *_: Any) -> None:
        if self.wants_batch and module.training and torch.is_grad_enabled():
            first = next(module.parameters(), None)
            self._before = random_state(None if first is None else first.device)

    def _moment(self, step: int, size_bytes: int) -> Moment | None:
        """Where the batch goes; ``None``: nowhere."""
        most_bytes = BATCHES_BYTES // 3
        if size_bytes > most_bytes:
            self.wants_batch = False
            self.notes.append(f"A batch takes {size_bytes / 1e6:,.0f} MB, too much to keep several.")
            return None
        start = self._start
        if not self._recent and len(start.kept) < WINDOW_STEPS and start.size_bytes + size_bytes <= most_bytes:
            return start
        newest = self._recent[-1] if self._recent else None
        full = newest is None or len(newest.kept) >= WINDOW_STEPS or newest.size_bytes + size_bytes > most_bytes
        if newest is not None and not full:
            return newest
        # A window begins where an update does.
        if (step - self._start.step) % self._facts.accumulate_batches:
            return newest
        return self._next_window(step)

    def _next_window(self, step: int) -> Moment | None:
        state = _bytes_of(t for o in self._optimizers for values in o.state.values() for t in tensors(values))
        size = _bytes_of(named_tensors(self._module).values()) + state
        if len(self._start_blob) + 2 * size > self._room_bytes:
            self.wants_batch = False
            self.notes.append(
                f"Later weights were not kept: two copies with the optimizer's state take {2 * size / 1e6:,.0f} MB."
            )
            return None
        moment = Moment(
            step,
            weights={name: t.detach().clone() for name, t in named_tensors(self._module).items()},
            optimizers=[copy.deepcopy(o.state_dict()) for o in self._optimizers],
            streams=_streams(),
        )
        self._recent = [*self._recent[-1:], moment]
        return moment


def _as_plain(moment: Moment, losses: dict[int, float]) -> dict[str, Any]:
    """A moment without classes of ours, so that any later failguard can read it."""
    return {
        "step": moment.step,
        "weights": moment.weights,
        "optimizers": moment.optimizers,
        "streams": moment.streams,
        "batches": [
            {
                "step": kept.step,
                "batch": kept.batch,
                "random": kept.random,
                "groups": kept.groups,
                "loss": losses.get(kept.step),
            }
            for kept in moment.kept
        ],
    }


def _stored(value: Any) -> bytes:
    """As a file of ``torch.save``. Classes and functions of a script or notebook go into it whole.

    Raises:
        CapsuleRefused: Something in it cannot be pickled.
    """
    import io

    import cloudpickle

    file = io.BytesIO()
    try:
        torch.save(value, file, pickle_module=cloudpickle)
    except Exception as error:  # pickling runs code of the user's: anything may be raised
        raise CapsuleRefused(
            f"the model or what it holds cannot be stored ({type(error).__name__}: {str(error)[:200]}). Keep open "
            "files, locks and generators out of the module's attributes"
        ) from error
    return file.getvalue()


def _streams() -> dict[str, Any]:
    return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.default_generator.get_state()}


def _plain_settings(group: dict[str, Any]) -> dict[str, Any]:
    settings = {name: value for name, value in group.items() if name != "params" and isinstance(value, PLAIN)}
    rate = group.get("lr")
    if isinstance(rate, Tensor) and rate.device.type == "cpu" and rate.numel() == 1:
        settings["lr"] = float(rate)
    return settings


def _copied(batch: Any) -> Any:
    """A loader may use its buffers again. Of a view only what it shows is copied."""
    if isinstance(batch, Tensor | Mapping | list | tuple):
        return mapped(batch, lambda t: t.detach().clone())
    try:
        return copy.deepcopy(batch)
    except Exception:  # noqa: BLE001 - a class of the user's that cannot be copied is kept as it is
        return batch


def _bytes_of(values: Any) -> int:
    return sum(t.numel() * t.element_size() for t in values)


def _room_bytes(module: nn.Module) -> float:
    """Memory that copies of weights and optimizer state may take."""
    first = next(module.parameters(), None)
    if first is not None and first.device.type == "cuda":
        return MODEL_SHARE * float(torch.cuda.mem_get_info(first.device)[0])
    free = available_memory_bytes()
    return float("inf") if free is None else MODEL_SHARE * free
