"""Peers as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.detection.scoring import Score

__all__ = ["peer_table"]

HEADER = (
    "peer",
    "runs it can watch",
    "faulty runs alarmed on",
    "named the right family",
    "healthy runs alarmed on",
    "healthy runs acted on",
    "runs it broke",
    "failguard on the same runs: faulty alarmed, right, healthy alarmed, stopped",
)


def peer_table(peers: Mapping[str, Any], own: Sequence[Score] = ()) -> list[str]:
    """The table and what there is to know about it.

    Args:
        peers: What ``compare`` returned or kept.
        own: failguard's scores on the same programs, for the last column.
    """
    scores = {score.run: score for score in own}
    rows = [_row(name, entry, scores) for name, entry in peers["peers"].items()]
    return [
        f"Peers at their documented defaults, each in an environment of its own, on the {peers['rule']}. A peer is "
        "judged on the runs it can watch only. It named the right family if a word of its warnings or errors may "
        "stand for the fault or a symptom of it, read generously. It acted on a run if it skipped an update, rolled "
        "back, changed the rate or stopped.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "|" + "---|" * len(HEADER),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        *(f"- {_about(name, entry)}" for name, entry in peers["peers"].items()),
    ]


def _row(name: str, entry: Mapping[str, Any], scores: Mapping[str, Score]) -> list[str]:
    title = f"{name} {entry['version']}"
    if "not_installable" in entry:
        return [title, "not installable here", *["-"] * (len(HEADER) - 2)]
    f = entry["figures"]
    return [
        title,
        f"{f['usable']} of {f['runs']}",
        _share(f["faulty_alarmed"], f["faulty"]),
        _share(f["right_family"], f["faulty"]),
        _share(f["healthy_alarmed"], f["healthy"]),
        _share(f["healthy_acted_on"], f["healthy"]),
        str(f["broke"]),
        _own(entry, scores),
    ]


def _own(entry: Mapping[str, Any], scores: Mapping[str, Score]) -> str:
    """Only where every run that the peer watched has a score; another set of runs would be no comparison."""
    watched = [run["run"] for run in entry["runs"] if "unusable" not in run]
    if not watched or not all(run in scores for run in watched):
        return "-"
    faulty = [scores[run] for run in watched if scores[run].counts_as == "faulty"]
    healthy = [scores[run] for run in watched if scores[run].counts_as == "healthy"]
    return ", ".join(
        (
            f"{sum(bool(s.found_any) for s in faulty)}/{len(faulty)}",
            f"{sum(bool(s.found) for s in faulty)}/{len(faulty)}",
            f"{sum(bool(s.alarm) for s in healthy)}/{len(healthy)}",
            f"{sum(s.stopped for s in healthy)}/{len(healthy)}",
        )
    )


def _share(count: int, total: int) -> str:
    return f"{count}/{total} ({100 * count / total:.0f} %)" if total else "-"


def _about(name: str, entry: Mapping[str, Any]) -> str:
    frameworks = ", ".join(entry["frameworks"])
    if "not_installable" in entry:
        return f"{name}: not installable here ({entry['not_installable']}); {entry['date']}."
    versions = ", ".join(f"{package} {v}" for package, v in entry["with"].items())
    return f"{name}: {entry['wiring']}. Programs in {frameworks}; {entry['date']}, with {versions}."
