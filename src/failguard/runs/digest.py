"""What a team learned, for people: the sections of a screen, of a Markdown file and of a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from typing import Any

from failguard.diagnosis.wording import count, number
from failguard.report.markdown import markdown_table, markdown_text
from failguard.report.summary import cause_title, duration, one_line, percent
from failguard.runs.awards import awards
from failguard.runs.metrics import LearningMetrics

__all__ = ["PERIODS", "Digest", "Section", "digest", "numbers_of", "sections_of", "value_text"]

PERIODS = {"week": timedelta(days=7), "month": timedelta(days=30)}
MOST_WEEKS = 12
MOST_ROWS = 10
MAX_MESSAGE = 3_500  # characters: what chats take in one message

_LABELS = {
    "experiment_velocity": "Velocity",
    "failure_rate": "Failures",
    "failure_recovery_time_h": "Recovery",
    "lesson_application_rate": "Lessons",
    "repeat_failure_rate": "Repeats",
    "innovation_index": "Innovation",
    "learning_efficiency_score": "Efficiency",
    "time_to_detect_s": "Detected",
    "used_h": "Used",
    "wasted_h": "Wasted",
    "saved_h": "Saved",
    "gpu_h": "GPU used",
    "wasted_gpu_h": "GPU wasted",
    "saved_gpu_h": "GPU saved",
}


@dataclass(frozen=True, slots=True)
class Section:
    """A part of what is told.

    Attributes:
        title: Its heading.
        head: Names of the columns.
        rows: Cells as plain text.
        remark: A sentence below; where there are no rows, why.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Digest:
    """What a team learned in a week or a month.

    Attributes:
        title: What it is of.
        sections: What it says.
        metrics: The numbers of the period.
        before: Those of the period before.
    """

    title: str
    sections: tuple[Section, ...]
    metrics: LearningMetrics
    before: LearningMetrics

    def to_markdown(self) -> str:
        """For a repository or a chat that renders Markdown."""
        lines = [f"# {markdown_text(self.title)}"]
        for section in self.sections:
            lines += ["", f"## {section.title}"]
            lines += markdown_table(section.head, section.rows)
            lines += ["", markdown_text(section.remark)] if section.remark else []
        return "\n".join(lines).rstrip() + "\n"

    def to_html(self) -> str:
        """One self-contained page, in the style of run reports: no network, no script."""
        from failguard.report.html import page

        rate = self.metrics.repeat_failure_rate
        tone = "warning" if rate else "calm"
        return page(self.title, tone, *(_html(section) for section in self.sections))

    def to_text(self) -> str:
        """Short plain text for a message."""
        lines = []
        for section in self.sections:
            if section.title == "Trend":
                continue
            lines += [section.title + ":"]
            lines += [" - " + ", ".join(cell for cell in row if cell) for row in section.rows[:MOST_ROWS]]
            lines += [section.remark] if section.remark and not section.rows else []
        text = "\n".join(lines)
        return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 1] + "…"

    def to_dict(self) -> dict[str, Any]:
        """Everything as values of strict JSON."""
        return {
            "title": self.title,
            "period": self.metrics.to_dict(),
            "before": self.before.to_dict(),
            "awards": [award.to_dict() for award in awards(self.metrics)],
        }


def digest(metrics: LearningMetrics, period: str, until: datetime, *, experiment: str | None = None) -> Digest:
    """What was learned in the week or month before a time, compared with the one before that.

    Args:
        metrics: The numbers of a window that reaches back as far as there are runs: what was known before counts.
        period: ``"week"`` (7 days) or ``"month"`` (30 days).
        until: End of the period, not included.
        experiment: For the title.
    """
    length = PERIODS[period]
    since = until - length
    now, before = metrics.within(since, until), metrics.within(since - length, since)
    first, last = (t.astimezone(metrics.zone) for t in (since, until - timedelta(microseconds=1)))
    of = f" in {one_line(experiment, 80)}" if experiment else ""
    title = f"What was learned{of}, {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    names = (f"this {period}", f"the {period} before")
    numbers = Section(
        "Numbers",
        ("", *names, "computed from"),
        tuple((label, value_text(now, n), value_text(before, n), basis) for n, label, basis in numbers_of(now)),
    )
    return Digest(title, (numbers, *sections_of(now, trend_of=metrics)), now, before)


def numbers_of(metrics: LearningMetrics) -> Iterator[tuple[str, str, str]]:
    """Name, label and basis of each number that is worth telling: hours only where some are known."""
    for name, label in _LABELS.items():
        if name == "learning_efficiency_score":
            score = metrics.learning_efficiency_score()
            missing = [n for n in ("lesson_application_rate", "repeat_failure_rate", "innovation_index")
                       if metrics.details[n].value is None]  # fmt: skip
            why = f"Not defined without {' and '.join(_LABELS[n].lower() for n in missing)}."
            yield name, label, "Of lessons, repeats, innovation and velocity, at most 1." if score is not None else why
            continue
        figure = metrics.details[name]
        if figure.value is not None or not name.endswith(("used_h", "wasted_h", "saved_h", "gpu_h")):
            yield name, label, figure.basis


def value_text(metrics: LearningMetrics, name: str) -> str:
    """A number as people read it, ``"-"`` where there is none."""
    if name == "learning_efficiency_score":
        score = metrics.learning_efficiency_score()
        return "-" if score is None else f"{score:.2f}"
    value = metrics.details[name].value
    if value is None:
        return "-"
    if name == "experiment_velocity":
        return f"{number(round(value, 2))} a week"
    if name == "time_to_detect_s":
        return duration(value)
    if name.endswith("gpu_h"):
        return f"{number(value)} GPU-h"
    return duration(value * 3600) if name.endswith("_h") else percent(value)


def sections_of(metrics: LearningMetrics, *, trend_of: LearningMetrics | None = None) -> list[Section]:
    """The tables: trend by week, failures by cause, failures that came back, lessons, awards.

    Args:
        metrics: The runs that are told of.
        trend_of: The runs of the trend, where it reaches further back.
    """
    return [
        _trend(metrics if trend_of is None else trend_of),
        _causes(metrics),
        _repeats(metrics),
        _lessons(metrics),
        _awards(metrics),
    ]


def _trend(metrics: LearningMetrics) -> Section:
    head = ("week of", "runs", "failed", "repeats", "new regions", "lessons applied", "wasted")
    rows = []
    for week in metrics.by_week()[-MOST_WEEKS:]:
        d = week.details
        lessons = d["lesson_application_rate"]
        wasted = d["wasted_h"].value
        rows.append(
            (
                f"{week.first:%Y-%m-%d}",
                count(len(week.judged)),
                count(d["failure_rate"].counted),
                count(d["repeat_failure_rate"].counted),
                count(d["innovation_index"].counted),
                f"{count(lessons.counted)} of {count(lessons.of)}" if lessons.of else "-",
                "-" if wasted is None else duration(wasted * 3600),
            )
        )
    return Section("Trend", head, tuple(rows), "" if rows else "No run.")


def _causes(metrics: LearningMetrics) -> Section:
    head = ("cause", "failures", "share", "repeats", "recovered", "mean time", "wasted")
    rows = [
        (
            row.cause,
            count(row.failures),
            percent(row.share),
            count(row.repeats),
            count(row.recovered),
            "-" if row.recovery_h is None else duration(row.recovery_h * 3600),
            "-" if row.wasted_h is None else duration(row.wasted_h * 3600),
        )
        for row in metrics.by_cause()
    ]
    return _cut("Failures by cause", head, rows, "No run failed.")


def _repeats(metrics: LearningMetrics) -> Section:
    head = ("failure", "times", "runs", "lesson")
    rows = [
        (
            f"{row.finding or 'failure'}" + (f" ({cause_title(row.cause).lower()})" if row.cause else ""),
            count(row.times),
            _run_names(row.runs),
            one_line(row.lessons[0], 120) if row.lessons else "none was written",
        )
        for row in metrics.repeated_failures()
    ]
    return _cut("Failures that came back", head, rows, "None.")


def _lessons(metrics: LearningMetrics) -> Section:
    head = ("lesson or next step", "run", "applied by")
    ordered = sorted(metrics.lessons, key=lambda lesson: (lesson.note.written_at, lesson.note.id), reverse=True)
    rows = [
        (
            one_line(lesson.note.text, 160),
            lesson.run_id[:8],
            (lesson.applied_by or "nobody yet")[:10] if lesson.judgeable else "cannot be told",
        )
        for lesson in ordered
    ]
    return _cut("Lessons", head, rows, 'None was written: failguard runs note RUN --lesson "..."')


def _awards(metrics: LearningMetrics) -> Section:
    rows = [(award.name, ", ".join(one_line(m, 60) for m in award.members), award.why) for award in awards(metrics)]
    return _cut("Awards", ("award", "goes to", "for"), rows, "Nobody qualifies.")


def _cut(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]], empty: str) -> Section:
    more = len(rows) - MOST_ROWS
    remark = "" if rows else empty
    return Section(title, head, tuple(rows[:MOST_ROWS]), f"{count(more)} more." if more > 0 else remark)


def _run_names(runs: Sequence[str]) -> str:
    named = ", ".join(run[:8] for run in runs[:4])
    return named if len(runs) <= 4 else f"{named} and {count(len(runs) - 4)} more"


def _html(section: Section) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in section.head)
    rows = "".join("<tr>" + "".join(f"<td>{escape(one_line(c))}</td>" for c in row) + "</tr>" for row in section.rows)
    title = escape(section.title)
    table = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{title}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    remark = f"<p class='quiet'>{escape(one_line(section.remark))}</p>" if section.remark else ""
    return f"<h2>{title}</h2>{table if section.rows else ''}{remark}"
