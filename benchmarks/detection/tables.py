"""The figures as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.detection.program import PROGRAMS, Truth
from benchmarks.detection.scoring import Score, figures, per_code

__all__ = ["headline", "misses", "page"]

ROWS = (
    ("faulty_runs", "faulty runs", "n", ""),
    ("healthy_runs", "healthy runs", "n", ""),
    ("found", "faulty runs found, with a right code", "%", ">= 95 %"),
    ("found_any", "faulty runs with any warning or error", "%", ""),
    ("root_right", "root finding right", "%", ">= 85 %"),
    ("cause_top_1", "cause right, first named", "%", ">= 65 %"),
    ("cause_top_3", "cause right, among the first three", "%", ">= 85 %"),
    ("healthy_with_error_or_stop", "healthy runs with an error or a stop", "%", "<= 2 %"),
    ("healthy_with_warning", "healthy runs with a warning or worse", "%", "<= 5 %"),
    ("codes_a_faulty_run", "codes at warning or above in a faulty run", "1", "<= 3"),
    ("wrong_codes_a_faulty_run", "of these, false claims", "1", ""),
    ("non_finite_at_step", "values not finite, found at their step", "%", "100 %"),
    ("latency_steps_median", "steps from onset to first right finding, median", "n", ""),
    ("latency_steps_p90", "the same, 90th percentile", "n", ""),
    ("faulty_stopped", "faulty runs stopped by policy `standard`", "%", ""),
    ("compute_saved", "planned steps saved by stops, mean over faulty runs", "%", ""),
    ("equivalent_runs", "mutants that train as well as their twin, not counted", "n", ""),
    ("weak_runs", "twins that hardly learn, not counted", "n", ""),
)


def _text(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return {"%": f"{100 * value:.1f} %", "1": f"{value:.2f}", "n": f"{value:.0f}"}[unit]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        "| " + " | ".join(header) + " |",
        "|" + "---|" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def half(scores: Sequence[Score], name: str) -> list[Score]:
    """The runs of one half of the split."""
    return [s for s in scores if PROGRAMS[s.run.split(":")[0]].half == name]


def headline(scores: Sequence[Score]) -> list[str]:
    """The figures of both halves beside their targets."""
    columns = {name: figures(half(scores, name)) for name in ("report", "calibration")}
    columns |= {f: figures([s for s in half(scores, "report") if s.run.startswith(f)]) for f in _frameworks(scores)}
    header = ["", "report half", "target", "calibration half", *(f"{f}, report half" for f in _frameworks(scores))]
    rows = []
    for key, label, unit, target in ROWS:
        report, calibration, *others = (_text(column[key], unit) for column in columns.values())
        rows.append([label, report, target, calibration, *others])
    return _table(header, rows)


def _frameworks(scores: Sequence[Score]) -> list[str]:
    return sorted({s.run.split("/")[0] for s in scores})


def codes(scores: Sequence[Score], truths: Mapping[str, Truth | None]) -> list[str]:
    """Recall per code."""
    rows = [
        [f"`{r['code']}`", str(r["runs"])]
        + [_text(r[k], "%") for k in ("found", "this_code", "root_right", "cause_top_1", "cause_top_3")]
        for r in per_code(scores, truths)
    ]
    return _table(["fault whose root is", "runs", "found", "this code", "root right", "cause top-1", "top-3"], rows)


def programs(scores: Sequence[Score]) -> list[str]:
    """One row a program and variant, its seeds together."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for s in scores:
        name, variant, _ = s.run.split(":")
        groups.setdefault((name, variant), []).append(s)
    rows = []
    for (name, variant), group in groups.items():
        truth = PROGRAMS[name].truth if variant == "faulty" else None
        counted = [s for s in group if s.counts_as == "faulty"]
        rows.append(
            [
                name,
                PROGRAMS[name].half,
                variant if all(s.counts_as in ("faulty", "healthy") for s in group) else _kinds(group),
                f"`{truth.roots[0]}`" if truth else "none",
                f"{sum(bool(s.found) for s in counted)}/{len(counted)}" if truth else "",
                _join(s.root for s in group),
                f"{truth.causes[0]}" if truth else "",
                _join(s.cause for s in group),
                _join(code for s in group for code in s.raised if code != s.root),
            ]
        )
    header = ["program", "half", "variant", "expected", "found", "root", "expected cause", "first cause", "also raised"]
    return _table(header, rows)


def _kinds(group: Sequence[Score]) -> str:
    return ", ".join(sorted({s.counts_as for s in group}))


def _join(values: Any) -> str:
    return ", ".join(sorted({str(v) for v in values if v})) or "-"


def misses(scores: Sequence[Score]) -> list[str]:
    """What went wrong, a line a run."""
    lines = []
    for s in scores:
        truth = PROGRAMS[s.run.split(":")[0]].truth
        raised = ", ".join(s.raised) or "nothing"
        if s.counts_as == "faulty" and truth is not None:
            faults = []
            if not s.found:
                faults.append("MISSED")
            elif not s.root_right:
                faults.append("wrong root")
            if s.cause_rank is None or s.cause_rank > 1:
                faults.append(f"cause {'not named' if s.cause_rank is None else f'at {s.cause_rank}'}")
            if s.at_step is False:
                faults.append("not at its step")
            if s.wrong:
                faults.append(f"false claims {', '.join(s.wrong)}")
            if faults:
                expected = f"expected {' | '.join(truth.roots)}; causes {' | '.join(truth.causes)}"
                lines.append(
                    f"- {s.run}: {'; '.join(faults)}. Raised {raised}; root {s.root}; cause {s.cause}. {expected}"
                )
        elif s.counts_as == "healthy" and s.alarm:
            lines.append(f"- {s.run}: FALSE ALARM ({s.alarm}{', stopped' if s.stopped else ''}). Raised {raised}")
    return lines


def page(scores: Sequence[Score], context: Mapping[str, Any], peers: Mapping[str, Any] | None = None) -> str:
    """The whole page."""
    truths = {name: p.truth for name, p in PROGRAMS.items()}
    versions = ", ".join(f"{name} {v}" for name, v in context["versions"].items())
    lines = [
        "# Detection",
        "",
        "failguard at its defaults on the zoo of `benchmarks/detection`: programs that fail, "
        "each with its fixed twin, and healthy ones. Thresholds may be fitted on the calibration half only; the "
        "figures that count are those of the report half.",
        "",
        f"{context['machine']}; {versions}; seeds {context['seeds']}; {context['date']}; "
        f"{context['seconds']:.0f} s. `{context['command']}`",
        "",
        *headline(scores),
        "",
        "## Recall per code, report half",
        "",
        *codes(half(scores, "report"), truths),
        "",
        "## Recall per code, both halves",
        "",
        *codes(scores, truths),
        "",
    ]
    if peers:
        from benchmarks.detection.peers.table import peer_table

        lines += ["## Peers", "", *peer_table(peers, scores), ""]
    lines += ["## Programs", "", *programs(scores), ""]
    return "\n".join(lines)
