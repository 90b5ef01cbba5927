"""From what a peer said and did to figures that are fair to it. Pure functions of plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.detection.peers.watch import NON_FINITE
from benchmarks.detection.program import Truth
from benchmarks.detection.scoring import Check

__all__ = ["Verdict", "peer_figures", "verdict"]


@dataclass(frozen=True)
class Verdict:
    """One run under the eyes of a peer.

    Attributes:
        run: ``program:variant:seed``.
        counts_as: See :class:`~benchmarks.detection.scoring.Check`.
        said: Its words at warning or above, in order.
        first_alarm_step: Step of the first of them.
        alarmed: It said something at warning or above.
        right_family: One of these words may stand for the fault or an honest symptom of it; ``None`` if the run is not
            faulty.
        actions: How often it changed the training, a stop included.
        unusable: Why it cannot watch this program; empty if it can. Nothing else counts then.
        broke: The error with which the program ended under its watch though the peer did not mean to stop it.
    """

    run: str
    counts_as: str
    said: tuple[str, ...] = ()
    first_alarm_step: int | None = None
    alarmed: bool = False
    right_family: bool | None = None
    actions: int = 0
    unusable: str = ""
    broke: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values without those that say nothing."""
        values = {**asdict(self), "said": list(self.said)}
        return {name: value for name, value in values.items() if value is not None and value not in ("", [])}


def verdict(result: Mapping[str, Any], truth: Truth | None, check: Check) -> Verdict:
    """Judge one run.

    Args:
        result: Of the worker, with what ``PeerWatch.seen`` gives, ``error`` if the program raised, ``crashed`` if the
            process is gone.
        truth: What is wrong with the program.
        check: What the unwatched run showed.
    """
    run = f"{result['program']}:{result['variant']}:{result['seed']}"
    if result.get("unusable"):
        return Verdict(run, check.counts_as, unusable=result["unusable"])
    loud = [f for f in result.get("findings", ()) if f["severity"] != "info"]
    error = "" if result.get("status") == "stopped" else result.get("error", "")
    true = _true_codes(truth, check)
    return Verdict(
        run=run,
        counts_as=check.counts_as,
        said=tuple(dict.fromkeys(f["said"] for f in loud)),
        first_alarm_step=min((f["step"] for f in loud), default=None),
        alarmed=bool(loud),
        right_family=None if true is None else any(true & set(f["codes"]) for f in loud),
        actions=result.get("actions", 0),
        broke=result.get("crashed", error),
    )


def _true_codes(truth: Truth | None, check: Check) -> frozenset[str] | None:
    """What may rightly be said of a faulty run. That a loss became NaN is true wherever an unwatched run showed it."""
    if truth is None or check.counts_as != "faulty":
        return None
    return truth.codes | frozenset(NON_FINITE if check.first_bad is not None else ())


def peer_figures(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Counts over some runs. Runs that are neither faulty nor healthy count among ``runs`` and ``broke`` only.

    Returns:
        ``runs``, ``usable``, ``broke``; of usable runs ``faulty``, ``faulty_alarmed``, ``right_family``, ``healthy``,
        ``healthy_alarmed``, ``healthy_acted_on``.
    """
    usable = [v for v in verdicts if not v.unusable]
    faulty = [v for v in usable if v.counts_as == "faulty"]
    healthy = [v for v in usable if v.counts_as == "healthy"]
    return {
        "runs": len(verdicts),
        "usable": len(usable),
        "broke": _count(v.broke for v in usable),
        "faulty": len(faulty),
        "faulty_alarmed": _count(v.alarmed for v in faulty),
        "right_family": _count(v.right_family for v in faulty),
        "healthy": len(healthy),
        "healthy_alarmed": _count(v.alarmed for v in healthy),
        "healthy_acted_on": _count(v.actions for v in healthy),
    }


def _count(values: Iterable[object]) -> int:
    return sum(bool(value) for value in values)
