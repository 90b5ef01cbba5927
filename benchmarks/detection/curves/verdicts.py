"""What detectors say of a curve, by the two ways in which users hear of it: a live run and the analysis of a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.detection.curves.curve import Curve

import failguard
from failguard.core.finding import Finding, Severity
from failguard.detectors.base import Detector, replay

__all__ = ["first_by_code", "listen", "worst"]


def listen(curve: Curve, detectors: Sequence[Detector], *, both_ways: bool = True) -> list[Finding]:
    """Everything the detectors report, in the order of the run, repeats included.

    Args:
        curve: The run.
        detectors: Each is asked alone.
        both_ways: Analyse the log of a curve that can be replayed as well.
    """
    found = [f for d in detectors for f in replay(d, curve.example)] if curve.live else []
    if curve.log is not None and (both_ways or not curve.live):
        log = {name: list(values) for name, values in curve.log.items()}
        found += failguard.analyze(log, per=curve.per, detectors=list(detectors)).findings
    return sorted(found, key=lambda f: (f.step, f.epoch))


def worst(found: Sequence[Finding]) -> Mapping[str, Severity]:
    """The highest severity of each code."""
    result: dict[str, Severity] = {}
    for finding in found:
        if finding.code not in result or finding.severity.rank > result[finding.code].rank:
            result[finding.code] = finding.severity
    return result


def first_by_code(found: Sequence[Finding]) -> list[Finding]:
    """One finding a code, as an episode is raised: when it is first at its highest severity."""
    severities = worst(found)
    first: dict[str, Finding] = {}
    for finding in found:
        if finding.severity is severities[finding.code]:
            first.setdefault(finding.code, finding)
    return sorted(first.values(), key=lambda f: (f.step, f.epoch))
