"""Losses under names that say more than that: parts of one loss, several validation sets, words such as ``avg``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from failguard.analysis.columns import Roles, normal
from failguard.analysis.log import Log, Row

__all__ = ["find_losses", "loss_like"]

# Words that say how a loss was put together, and nothing of what it is of.
_FILLERS = frozenset({"avg", "average", "mean", "total", "running", "overall", "epoch"})
_TRAINING = frozenset({"train", "training", "tr"})
_HELD_OUT = frozenset({"val", "valid", "validation", "eval", "dev", "test"})
# Losses that work against each other, or that are no measure of success: a sum of them says nothing.
_RIVALS = frozenset(
    {
        *("g", "d", "gen", "disc", "generator", "discriminator", "critic", "adv", "adversarial", "fake", "real", "gan"),
        *("actor", "policy", "value", "entropy", "q", "pg", "vf"),
    }
)


def find_losses(log: Log, roles: Roles) -> None:
    """Look for the losses that :func:`~failguard.analysis.columns.roles_of` did not find, in place.

    - ``avg_train_loss``, ``trainLosses``, ``total_loss``: a loss by another name.
    - ``train/box_loss`` and ``train/cls_loss``, as detectors log them: parts of one loss, which is their sum, since
      frameworks log parts weighted. A column ``"train_loss"`` (``"val_loss"``) is added to the log.
    - ``eval_news_loss`` and ``eval_law_loss`` beside one training loss: validation on several data sets, the first of
      which is taken.
    - One loss in the whole log, whatever it is called: the training loss.

    Losses of adversarial and reinforcement learning (generator, critic, policy, ...) are left alone.
    """
    losses = {name: words for name in roles.metrics if "loss" in (words := _words(name))}
    plain = {name: words for name, words in losses.items() if _TRAINING | _HELD_OUT | _FILLERS | {"loss"} >= {*words}}
    no_training = not roles.train_losses
    for name, words in plain.items():
        if _HELD_OUT.isdisjoint(words):
            if no_training and roles.loss is None:
                roles.loss = name
        elif roles.val_loss is None:
            roles.val_loss = name
    parts = {name: words for name, words in losses.items() if words[-1] == "loss" and _RIVALS.isdisjoint(words)}
    training = [name for name, words in parts.items() if words[0] in _TRAINING]
    held_out = [name for name, words in parts.items() if words[0] in _HELD_OUT]
    if not roles.train_losses and len(training) > 1 and _add_sum(log, "train_loss", training):
        roles.loss = "train_loss"
        if roles.val_loss is None and len(held_out) > 1 and _add_sum(log, "val_loss", held_out):
            roles.val_loss = "val_loss"
    if roles.val_loss is None and held_out:
        roles.val_loss = held_out[0]
        if len(held_out) > 1:
            log.notes.append(f"There are {len(held_out)} validation losses: {held_out[0]!r} was taken, as the first.")
    if not roles.train_losses:
        others = [name for name, words in losses.items() if words[0] not in _HELD_OUT]
        if len(others) == 1 and others[0] in parts:
            (roles.loss,) = others
    taken = {roles.loss, roles.val_loss}
    roles.metrics = [name for name in roles.metrics if name not in taken]


def loss_like(names: Iterable[str]) -> list[str]:
    """The columns that have a loss in their name."""
    return [name for name in names if "loss" in _words(name)]


def _words(name: str) -> list[str]:
    """``"avgTrainLosses"`` -> ``["avg", "train", "loss"]``."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return ["loss" if word == "losses" else word for word in normal(apart).split("_") if word]


def _add_sum(log: Log, name: str, parts: Sequence[str]) -> bool:
    """Add a column that is the sum of others where a row has all of them; false if the name is taken or no row has."""
    if name in log.names:
        return False
    places = [log.names.index(part) for part in parts]
    read = log.rows

    def rows() -> Iterator[Row]:
        for row in read():
            yield [*row, _sum(row[place] for place in places)]

    if log.ragged is not None:
        columns = [log.ragged[part] for part in parts]
        if len({len(column) for column in columns}) > 1:
            return False
        log.ragged = {**log.ragged, name: [_sum(values) for values in zip(*columns, strict=True)]}
    elif all(row[-1] is None for row in rows()):
        return False
    log.names, log.rows = [*log.names, name], rows
    log.notes.append(f"{name!r} is the sum of {', '.join(map(repr, parts))}.")
    return True


def _sum(values: Iterable[float | None]) -> float | None:
    total = 0.0
    for value in values:
        if value is None:
            return None
        total += value
    return total
