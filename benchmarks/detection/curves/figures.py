"""Figures on a set of curves: recall, false alarms, confusion, and how early overfitting is seen."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from benchmarks.detection.curves.curve import Curve
from benchmarks.detection.curves.fit import Fit
from benchmarks.detection.curves.verdicts import first_by_code, listen, worst

from failguard.core.finding import Severity
from failguard.detectors.base import Detector
from failguard.episodes import root_of

__all__ = ["figures", "left_out", "overfitting"]


def figures(curves: Sequence[Curve], detectors: Sequence[Detector]) -> dict[str, Any]:
    """Ask all detectors of all curves.

    Returns:
        ``"healthy"``: ``runs``, and of them the shares with an ``error``, with a ``warning`` or worse, and with any
        finding (``info``), and ``alarms``, what was said by family. ``"faulty"``: ``runs``, and the shares ``found``
        (anything at warning or above), with the ``right_code`` among it, with the ``right_root``, and the mean number
        of ``codes`` at warning or above. ``"recall"``: by code. ``"confusion"``: for each right code, how many runs had
        each code at warning or above.
    """
    healthy, alarms = [], defaultdict(Counter)
    faulty, recall, confusion = [], defaultdict(list), defaultdict(Counter)
    missed: Counter[str] = Counter()
    for curve in curves:
        found = listen(curve, detectors)
        severities = worst(found)
        loud = [code for code, severity in severities.items() if severity is not Severity.INFO]
        if not curve.is_faulty:
            healthy.append(severities)
            alarms[curve.family].update(f"{code} {severity}" for code, severity in severities.items())
            continue
        root = root_of(first_by_code(found))
        right = any(code in loud for code in curve.expected)
        faulty.append((bool(loud), right, root is not None and root.code in curve.expected, len(loud)))
        recall[curve.expected[0]].append(right)
        missed[curve.family] += not right
        confusion[curve.expected[0]].update(loud or ["nothing"])
        confusion[curve.expected[0]]["runs"] += 1
    ranks = [max((s.rank for s in severities.values()), default=-1) for severities in healthy]
    return {
        "healthy": {
            "runs": len(healthy),
            "error": _share([rank >= Severity.ERROR.rank for rank in ranks]),
            "warning": _share([rank >= Severity.WARNING.rank for rank in ranks]),
            "info": _share([rank >= Severity.INFO.rank for rank in ranks]),
            "alarms": {family: dict(said) for family, said in alarms.items() if said},
        },
        "faulty": {
            "runs": len(faulty),
            "found": _share([f[0] for f in faulty]),
            "right_code": _share([f[1] for f in faulty]),
            "right_root": _share([f[2] for f in faulty]),
            "codes": round(statistics.fmean(f[3] for f in faulty), 2) if faulty else 0.0,
            "missed": {family: n for family, n in missed.items() if n},
        },
        "recall": {code: {"runs": len(hits), "share": _share(hits)} for code, hits in sorted(recall.items())},
        "confusion": {code: dict(said) for code, said in sorted(confusion.items())},
    }


def overfitting(curves: Sequence[Curve], detector: Detector) -> dict[str, float]:
    """Precision, recall and F1 on labelled curves, and the delay in epochs of the first warning after the best epoch.

    Returns:
        Also ``best_epoch_named``, the share of hits in which the epoch named as best is the best of the whole run or
        within 2 % of its loss; and ``epochs``, the median length.
    """
    hits = alarms = positives = 0
    delays, named, lengths = [], [], []
    for curve in curves:
        positives += curve.is_faulty
        val = np.asarray(curve.example.epochs["val_loss"])
        lengths.append(val.size)
        first = next(iter(first_by_code(listen(curve, [detector], both_ways=False))), None)
        if first is None:
            continue
        alarms += 1
        if curve.is_faulty:
            hits += 1
            best = int(first.evidence["best_epoch"])
            delays.append(first.epoch - best)
            named.append(bool(val[best] <= 1.02 * val.min()))
    return {
        "runs": len(curves),
        "overfit": positives,
        "hits": hits,
        "false_alarms": alarms - hits,
        "f1": round(2 * hits / (alarms + positives), 4) if positives else 0.0,
        "delay_epochs_median": statistics.median(delays) if delays else 0.0,
        "best_epoch_named": _share(named),
        "epochs": statistics.median(lengths) if lengths else 0.0,
    }


def left_out(fits: Sequence[Fit]) -> dict[str, Any]:
    """False alarms on each healthy family of the calibration half by settings chosen without it.

    The choice is among the settings that the search has looked at.

    Returns:
        ``runs`` and the shares with an ``error`` and with a ``warning`` or worse from any detector, and ``families``
        with an alarm.
    """
    ranks: dict[tuple[str, str, int], int] = {}
    for search in fits:
        families = {c.family for c in search.curves if not c.is_faulty}
        settings: Mapping[str, Any] = {family: search.best(family) for family in families}
        for i, curve in enumerate(search.curves):
            if not curve.is_faulty:
                severity = search.verdicts[settings[curve.family]][i]
                key = (curve.family, curve.example.name, curve.seed)
                ranks[key] = max(ranks.get(key, -1), -1 if severity is None else severity.rank)
    loud = Counter(family for (family, _, _), rank in ranks.items() if rank >= Severity.WARNING.rank)
    return {
        "runs": len(ranks),
        "error": _share([rank >= Severity.ERROR.rank for rank in ranks.values()]),
        "warning": _share([rank >= Severity.WARNING.rank for rank in ranks.values()]),
        "families": dict(loud),
    }


def _share(flags: Sequence[bool]) -> float:
    return round(sum(flags) / len(flags), 4) if flags else 0.0
