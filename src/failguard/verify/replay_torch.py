"""Recorded batches of a loop or of Lightning, trained on once more."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from failguard.core.capsule import CapsuleInfo
from failguard.core.facts import Facts
from failguard.errors import InputError
from failguard.torch.measure import global_norm, gradients
from failguard.torch.snapshot import named_tensors
from failguard.trials.results import Replay
from failguard.verify.batch_torch import scale_of, scaled, to_device, without_bad_rows
from failguard.verify.changes import Change
from failguard.verify.loss_torch import LossOf, find_loss, loss_of_function, loss_of_module

__all__ = ["TorchCapsule"]

EVALUATED = 8  # batches whose mean loss is compared before and after
ONLY_THERE = ("fused", "capturable", "foreach", "differentiable")  # ways to compute, not settings


class TorchCapsule:
    """A capsule of torch or Lightning, opened.

    Attributes:
        moments: Step and number of batches of each moment to take up from, the start of the run first.
    """

    def __init__(self, folder: Path, info: CapsuleInfo, facts: Facts, device: str) -> None:
        """Args:
        folder: Of the capsule. Its files are unpickled, which runs code that is stored in them.
        info: Its description.
        facts: Of the run.
        device: To train on.
        """
        self._model_file = folder / "model.pt"
        self._info = info
        self._facts = facts
        self._device = device
        self._moments = _load(folder / "steps.pt", "cpu")["moments"]
        self.moments = [(int(m["step"]), len(m["batches"])) for m in self._moments]
        self._loss: LossOf | None = None

    def replay(self, which: int, change: Change | None, steps: int, until: float) -> Replay:
        """Train from a moment on.

        Args:
            which: Index of the moment.
            change: What to do otherwise; ``None``: nothing.
            steps: Updates, at most.
            until: Time at which to stop, by ``time.monotonic``.

        Raises:
            InputError: It cannot be done, and not because of the change.
        """
        moment = self._moments[which]
        module, optimizers, function = self._open(moment)
        kept = moment["batches"]
        loss_of = self._loss_of(module, kept, function)
        if change is not None:
            kept = _changed_batches(kept, change)
            _change_model(module, optimizers, change)
        result = Replay(recorded_losses=[one["loss"] for one in moment["batches"]])
        started = monotonic()
        run = _Run(self._info, self._facts, change, self._device, module, optimizers, loss_of)
        try:
            result.before = run.mean_loss(kept)
            _restore_streams(moment["streams"])
            run.train(kept, steps, until, result)
            if result.ended in ("", "time"):
                result.after = run.mean_loss(kept)
        except Exception as error:  # noqa: BLE001 - of the user's own code, or of a change that does not fit it
            result.ended, result.error = "error", f"{type(error).__name__}: {str(error)[:300]}"
        result.seconds = monotonic() - started
        return result

    def _open(self, moment: dict[str, Any]) -> tuple[nn.Module, list[Any], Any]:
        stored = _load(self._model_file, self._device)
        module, optimizers = stored["module"], stored["optimizers"]
        if not getattr(module, "automatic_optimization", True):
            raise InputError("the module optimizes by itself (automatic_optimization=False), which is not replayed")
        if moment["weights"] is not None:
            live = named_tensors(module)
            with torch.no_grad():
                for name, value in moment["weights"].items():
                    if name in live:
                        live[name].copy_(value)
            for optimizer, state in zip(optimizers, moment["optimizers"], strict=True):
                optimizer.load_state_dict(state)
        if self._device == "cpu":
            for group in (group for optimizer in optimizers for group in optimizer.param_groups):
                group.update({name: False for name in ("fused", "capturable") if group.get(name)})
        return module, optimizers, stored["loss_fn"]

    def _loss_of(self, module: nn.Module, kept: Sequence[dict[str, Any]], function: Any) -> LossOf:
        if self._loss is None:
            if self._info.framework == "lightning":
                self._loss = loss_of_module
            elif function is not None:
                self._loss = loss_of_function(function)
            else:
                first = kept[0]
                _set_torch_stream(first["random"])
                batch = to_device(first["batch"], self._device)
                self._loss = find_loss(module, batch, first["loss"], self._facts.loss_name)
        return self._loss


class _Run:
    """One model in one trial."""

    def __init__(
        self,
        info: CapsuleInfo,
        facts: Facts,
        change: Change | None,
        device: str,
        module: nn.Module,
        optimizers: list[Any],
        loss_of: LossOf,
    ) -> None:
        self._accumulate = info.accumulate_batches
        self._steps_per_epoch = facts.steps_per_epoch
        self._change = change
        self._device = device
        self._module = module
        self._optimizers = optimizers
        self._loss_of = loss_of
        # Where the run did not clear its gradients, neither does the replay.
        self._carries_over = facts.setup.carried_over > 0 and not (change is not None and change.clears_gradients)
        self._rates = [[group["lr"] for group in o.param_groups] for o in optimizers]
        self._clipping = info.clipping
        if change is not None and change.clip_norm is not None:
            self._clipping = f"norm {change.clip_norm}"

    def loss(self, kept: dict[str, Any]) -> Tensor:
        """The loss of a batch."""
        step = int(kept["step"])
        index = step % self._steps_per_epoch if self._steps_per_epoch else step
        return self._loss_of(self._module, to_device(kept["batch"], self._device), index)

    def mean_loss(self, kept: Sequence[dict[str, Any]]) -> float:
        """Over some of the batches, each time the same ones with the same random numbers."""
        chosen = range(0, len(kept), max(len(kept) // EVALUATED, 1))
        buffers = {name: t.detach().clone() for name, t in self._module.named_buffers()}
        total = 0.0
        with torch.no_grad():
            for i in chosen:
                _set_torch_stream(kept[i]["random"], seed=i)
                total += float(self.loss(kept[i]))
            for name, buffer in self._module.named_buffers():
                if name in buffers and buffers[name].shape == buffer.shape:
                    buffer.copy_(buffers[name])
        return total / max(len(chosen), 1)

    def train(self, kept: Sequence[dict[str, Any]], steps: int, until: float, result: Replay) -> None:
        """Make updates, batch after batch, and again from the first one."""
        for i in range(steps * self._accumulate):
            if monotonic() > until:
                result.ended = "time"
                return
            one = kept[i % len(kept)]
            _set_torch_stream(one["random"])
            loss = self.loss(one)
            value = float(loss.detach())
            result.losses.append(value)
            if value - value != 0.0:
                result.ended = "loss"
                return
            torch.autograd.backward(loss / self._accumulate)
            if (i + 1) % self._accumulate == 0:
                result.ended = self._update(one["groups"], result)
                if result.ended:
                    return

    def _update(self, settings: list[list[dict[str, Any]]], result: Replay) -> str:
        """One update.

        Returns:
            ``"gradient"`` where one is not finite; else ``""``.
        """
        parameters = [p for o in self._optimizers for g in o.param_groups for p in g["params"]]
        found = gradients(parameters)
        norm = global_norm(found) if found else 0.0
        result.norms.append(norm)
        if norm - norm != 0.0:
            return "gradient"
        self._clip(parameters)
        for optimizer, groups, rates in zip(self._optimizers, settings, self._rates, strict=False):
            self._set(optimizer, groups, rates)
            optimizer.step()
            if not self._carries_over:
                optimizer.zero_grad()
        result.updates += 1
        return ""

    def _set(self, optimizer: Any, groups: list[dict[str, Any]], rates: list[Any]) -> None:
        """The settings of this step, as a schedule had made them, and what the trial changes of them."""
        change = self._change
        for i, group in enumerate(optimizer.param_groups):
            saved = groups[min(i, len(groups) - 1)]
            group.update({k: v for k, v in saved.items() if k not in ONLY_THERE})
            if change is None:
                continue
            group["lr"] = saved.get("lr", rates[i]) * change.rate_factor
            if change.weight_decay is not None and group.get("weight_decay"):
                group["weight_decay"] = change.weight_decay

    def _clip(self, parameters: list[Tensor]) -> None:
        kind, _, limit = (self._clipping or "").partition(" ")
        if kind == "norm":
            nn.utils.clip_grad_norm_(parameters, float(limit))
        elif kind == "value":
            nn.utils.clip_grad_value_(parameters, float(limit))


def _changed_batches(kept: list[dict[str, Any]], change: Change) -> list[dict[str, Any]]:
    """The recorded batches, changed; those without a row left are left out."""
    batches = [one["batch"] for one in kept]
    if change.drops_rows:
        batches = without_bad_rows(batches)
        if all(batch is None for batch in batches):
            raise InputError("no recorded batch has a row without bad values")
    for wanted, part in ((change.scales_inputs, "inputs"), (change.scales_targets, "targets")):
        if wanted:
            scale = scale_of(batches, targets=part == "targets")
            if scale is None:
                raise InputError(f"the {part} are no floating-point tensor that can be scaled")
            batches = scaled(batches, scale, targets=part == "targets")
    return [{**one, "batch": batch} for one, batch in zip(kept, batches, strict=True) if batch is not None]


def _change_model(module: nn.Module, optimizers: list[Any], change: Change) -> None:
    if change.unfreezes:
        module.requires_grad_(True)
    if change.hands_over:
        known = {id(p) for o in optimizers for g in o.param_groups for p in g["params"]}
        more = [p for p in module.parameters() if p.requires_grad and id(p) not in known]
        if more:
            optimizers[0].add_param_group({"params": more})
    if change.initializes:
        torch.manual_seed(0)
        for part in module.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
    if change.dropout is not None:
        for part in module.modules():
            if isinstance(part, nn.modules.dropout._DropoutNd):
                part.p = change.dropout


def _load(path: Path, device: str) -> dict[str, Any]:
    """Unpickle a file of a capsule. Only in this process, and only because the user asked for it."""
    try:
        loaded = torch.load(path, map_location=device, weights_only=False)
    except OSError as error:
        raise InputError(f"{path.name} of the capsule cannot be read: {error}") from error
    except Exception as error:
        raise InputError(
            f"{path.name} of the capsule cannot be unpickled ({type(error).__name__}: {str(error)[:200]}). Run it "
            "where the modules of the training can be imported"
        ) from error
    assert isinstance(loaded, dict)
    return loaded


def _restore_streams(streams: dict[str, Any]) -> None:
    random.setstate(streams["python"])
    np.random.set_state(streams["numpy"])
    torch.default_generator.set_state(streams["torch"].cpu())


def _set_torch_stream(state: tuple[Tensor, Tensor | None] | None, seed: int | None = None) -> None:
    if state is not None:
        torch.default_generator.set_state(state[0].cpu())
    elif seed is not None:
        torch.manual_seed(seed)
