"""From what a watcher said and what is true to figures. Pure functions of plain values."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.detection.program import Truth
from benchmarks.detection.skill import CLEARLY_WORSE

__all__ = ["HEALTHY_SKILL", "Check", "Score", "check_runs", "figures", "per_code", "score"]

HEALTHY_SKILL = 0.2  # a program that has learned less than this is no example of a healthy one
LOUD = ("warning", "error", "fatal")
GRAVE = ("error", "fatal")
BAD_VALUES = frozenset({"loss.non_finite", "gradient.non_finite", "weights.non_finite", "data.non_finite"})

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Check:
    """What an unwatched run showed.

    Attributes:
        counts_as: ``"faulty"``, ``"healthy"``, ``"equivalent"`` (the fault did no clear harm) or ``"weak"`` (meant to
            be healthy, but hardly anything was learned). The last two are neither faulty nor healthy.
        skill: What was reached; 1 is perfect, 0 the trivial predictor.
        first_bad: First step with a loss that was not finite.
    """

    counts_as: str
    skill: float
    first_bad: int | None = None


@dataclass(frozen=True)
class Score:
    """One run.

    Attributes:
        run: ``program:variant:seed``.
        counts_as: See :class:`Check`.
        raised: Codes at warning or above, in the order they were seen.
        found: A code at warning or above that is no false claim. ``None`` for healthy runs, as the next five.
        found_any: Any code at warning or above.
        root_right: The root is an acceptable one, at warning or above.
        cause_rank: Place of the first right cause, from 1; ``None`` if no right cause was named.
        latency: Steps from the onset of the fault to the first acceptable finding.
        at_step: For values that are not finite: found at the step where they appeared.
        wrong: Codes at warning or above that are false claims.
        saved: Share of the planned steps that a stop saved; 0 where nothing stopped the run.
        stopped: The watcher ended the run.
        alarm: ``"error"``, ``"warning"`` or ``""``: the worst that was said. A stop counts as an error.
    """

    run: str
    counts_as: str
    raised: tuple[str, ...]
    root: str | None
    cause: str | None
    found: bool | None = None
    found_any: bool | None = None
    root_right: bool | None = None
    cause_rank: int | None = None
    latency: int | None = None
    at_step: bool | None = None
    wrong: tuple[str, ...] = ()
    saved: float = 0.0
    stopped: bool = False
    alarm: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def check_runs(unwatched: Iterable[Result]) -> dict[str, Check]:
    """Judge unwatched runs by their skill.

    Args:
        unwatched: With ``program``, ``variant``, ``seed``, ``skill`` and ``first_bad`` (absent after a crash).

    Returns:
        By ``program:variant:seed``.
    """
    by_key = {_key(r): r for r in unwatched}
    checks = {}
    for key, run in by_key.items():
        skill = float(run.get("skill", -1.0))
        if run["variant"] == "faulty":
            twin = by_key.get(f"{run['program']}:fixed:{run['seed']}", {})
            better = float(twin.get("skill", -1.0))
            failing = better >= HEALTHY_SKILL and better - skill >= CLEARLY_WORSE
            counts_as = "faulty" if failing else "equivalent"
        else:
            counts_as = "healthy" if skill >= HEALTHY_SKILL else "weak"
        checks[key] = Check(counts_as, round(skill, 4), run.get("first_bad"))
    return checks


def score(result: Result, truth: Truth | None, check: Check) -> Score:
    """Judge what a watcher said about one run.

    Args:
        result: ``findings`` (``code``, ``severity``, ``step``), ``root``, ``causes``, ``status``, ``steps``,
            ``planned_steps``. A crash of the benchmark's worker has none of them.
        truth: What is wrong with the program.
        check: What the unwatched run showed.
    """
    findings = result.get("findings", [])
    loud = [f for f in findings if f["severity"] in LOUD]
    raised = tuple(dict.fromkeys(f["code"] for f in loud))
    causes = result.get("causes", [])
    stopped = result.get("status") == "stopped"
    planned, steps = result.get("planned_steps"), result.get("steps", 0)
    grave = stopped or any(f["severity"] in GRAVE for f in loud)
    plain = Score(
        run=_key(result),
        counts_as=check.counts_as,
        raised=raised,
        root=result.get("root"),
        cause=causes[0] if causes else None,
        saved=max(planned - steps, 0) / planned if stopped and planned else 0.0,
        stopped=stopped,
        alarm="error" if grave else "warning" if loud else "",
    )
    if truth is None or check.counts_as != "faulty":
        return plain
    right = [f for f in loud if f["code"] in truth.codes]
    onset = check.first_bad if truth.onset is None and truth.non_finite else truth.onset
    ranks = [rank for rank, cause in enumerate(causes, 1) if cause in truth.causes]
    return Score(
        **{
            **plain.to_dict(),
            "found": bool(right),
            "found_any": bool(loud),
            "root_right": plain.root in truth.roots and plain.root in raised,
            "cause_rank": min(ranks, default=None),
            "latency": _latency(right, onset),
            "at_step": _at_step(findings, onset) if truth.non_finite else None,
            "wrong": tuple(code for code in raised if code not in truth.codes),
        }
    )


def _latency(right: Sequence[Mapping[str, Any]], onset: int | None) -> int | None:
    if onset is None or not right:
        return None
    return min(max(0, f["step"] - onset) for f in right)


def _at_step(findings: Sequence[Mapping[str, Any]], onset: int | None) -> bool | None:
    """The gradients of the step before may be the first that are bad: then its loss still was finite."""
    if onset is None:
        return None
    return any(f["code"] in BAD_VALUES and onset - 1 <= f["step"] <= onset for f in findings)


def figures(scores: Sequence[Score]) -> dict[str, Any]:
    """The figures over some runs. A share over nothing is ``None``."""
    faulty = [s for s in scores if s.counts_as == "faulty"]
    healthy = [s for s in scores if s.counts_as == "healthy"]
    latencies = [s.latency for s in faulty if s.latency is not None]
    timed = [s.at_step for s in faulty if s.at_step is not None]
    return {
        "faulty_runs": len(faulty),
        "healthy_runs": len(healthy),
        "equivalent_runs": sum(s.counts_as == "equivalent" for s in scores),
        "weak_runs": sum(s.counts_as == "weak" for s in scores),
        "found": _share(s.found for s in faulty),
        "found_any": _share(s.found_any for s in faulty),
        "root_right": _share(s.root_right for s in faulty),
        "cause_top_1": _share(s.cause_rank == 1 for s in faulty),
        "cause_top_3": _share(s.cause_rank is not None and s.cause_rank <= 3 for s in faulty),
        "healthy_with_error_or_stop": _share(s.alarm == "error" for s in healthy),
        "healthy_with_warning": _share(bool(s.alarm) for s in healthy),
        "codes_a_faulty_run": statistics.fmean(len(s.raised) for s in faulty) if faulty else None,
        "wrong_codes_a_faulty_run": statistics.fmean(len(s.wrong) for s in faulty) if faulty else None,
        "non_finite_at_step": _share(timed),
        "latency_steps_median": statistics.median(latencies) if latencies else None,
        "latency_steps_p90": _quantile(latencies, 0.9),
        "faulty_stopped": _share(s.stopped for s in faulty),
        "compute_saved": statistics.fmean(s.saved for s in faulty) if faulty else None,
    }


def per_code(scores: Sequence[Score], truths: Mapping[str, Truth | None]) -> list[dict[str, Any]]:
    """Recall by the best root of the truth.

    Args:
        scores: Of any runs.
        truths: By program.

    Returns:
        A row a code: ``code``, ``runs``, ``found``, ``this_code`` (the code itself was raised), ``root_right``,
        ``cause_top_1``, ``cause_top_3``.
    """
    groups: dict[str, list[Score]] = {}
    for s in scores:
        truth = truths[s.run.split(":")[0]]
        if truth is not None and s.counts_as == "faulty":
            groups.setdefault(truth.roots[0], []).append(s)
    return [
        {
            "code": code,
            "runs": len(group),
            "found": _share(s.found for s in group),
            "this_code": _share(code in s.raised for s in group),
            "root_right": _share(s.root_right for s in group),
            "cause_top_1": _share(s.cause_rank == 1 for s in group),
            "cause_top_3": _share(s.cause_rank is not None and s.cause_rank <= 3 for s in group),
        }
        for code, group in sorted(groups.items())
    ]


def _share(values: Iterable[bool | None]) -> float | None:
    listed = [bool(v) for v in values]
    return sum(listed) / len(listed) if listed else None


def _quantile(values: Sequence[float], q: float) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def _key(result: Result) -> str:
    return f"{result['program']}:{result['variant']}:{result['seed']}"
