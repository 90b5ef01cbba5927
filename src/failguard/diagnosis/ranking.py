"""From weights of evidence to a short list of causes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from failguard.core.diagnosis import Cause
from failguard.core.facts import Facts
from failguard.diagnosis.case import Case, Clue
from failguard.diagnosis.causes import KNOWLEDGE, CauseRow

__all__ = ["rank"]

MAX_CAUSES = 3
UNKNOWN = 1.0  # weight of "something that is not in the table"
LEAST_SCORE = 0.5
LEAST_CONFIDENCE = 0.08
MOST_CONFIDENCE = 0.95  # the table is written by judgement; it is never certain
TOLD = 0.2  # weights below this are not worth a line

_CONFIG: Mapping[str, Callable[[Facts], Any]] = {
    "optimizer": lambda f: f.optimizer.name or None,
    "learning_rate": lambda f: f.optimizer.learning_rate,
    "momentum": lambda f: f.optimizer.momentum,
    "weight_decay": lambda f: f.optimizer.weight_decay,
    "clipping": lambda f: f.optimizer.clipping,
    "schedule": lambda f: f.optimizer.schedule,
    "batch_size": lambda f: f.batch_size,
    "accumulate_batches": lambda f: f.accumulate_batches,
    "train_samples": lambda f: f.train_samples,
    "parameters": lambda f: f.model.parameters,
    "trainable_parameters": lambda f: f.model.trainable_parameters,
    "dropout": lambda f: f.model.dropout,
    "weight_penalty": lambda f: f.model.weight_penalty,
    "normalization": lambda f: f.model.normalization,
    "output_width": lambda f: f.model.output_width,
    "loss": lambda f: f.loss_name,
    "max_epochs": lambda f: f.max_epochs,
    "device": lambda f: f.device,
    "world_size": lambda f: f.world_size,
    "precision": lambda f: next((v for k, v in f.config.items() if "precision" in str(k).lower()), None),
}


def rank(case: Case) -> tuple[Cause, ...]:
    """Weigh every row of the knowledge base that can explain the root.

    A row without a clue in its favour takes no part. A cause's score is the weight of its symptom plus the weights of
    its clues. Confidences are the softmax of the scores together with one unnamed cause, which keeps a lone weak cause
    from looking certain.

    Returns:
        At most three causes, best first.
    """
    scored = []
    for row in KNOWLEDGE:
        if case.root_code in row.symptoms:
            clues = [clue for look in row.clues if (clue := look(case)) is not None]
            if any(clue.weight > 0 for clue in clues):
                scored.append((row.symptoms[case.root_code] + sum(clue.weight for clue in clues), row, clues))
    total = math.exp(UNKNOWN) + sum(math.exp(score) for score, _, _ in scored)
    causes = []
    for score, row, clues in sorted(scored, key=lambda s: -s[0])[:MAX_CAUSES]:
        confidence = math.exp(score) / total
        if score >= LEAST_SCORE and confidence >= LEAST_CONFIDENCE:
            causes.append(_cause(row, min(confidence, MOST_CONFIDENCE), clues, case))
    return tuple(causes)


def _cause(row: CauseRow, confidence: float, clues: list[Clue], case: Case) -> Cause:
    told = sorted((clue for clue in clues if abs(clue.weight) >= TOLD), key=lambda clue: -clue.weight)
    values = {name: _CONFIG[name](case.facts) for name in row.config}
    return Cause(
        code=row.code,
        confidence=round(confidence, 2),
        evidence=tuple(clue.text if clue.weight > 0 else f"against: {clue.text}" for clue in told),
        remedy=row.remedy(case),
        config_values={name: value for name, value in values.items() if value is not None},
    )
