"""What false positives have in common, as Markdown and HTML."""

from __future__ import annotations

from html import escape

from failguard.data.false_positives import FalsePositiveAnalysis, FalsePositiveRow
from failguard.data.pages import page
from failguard.report.markdown import markdown_table, markdown_text
from failguard.report.summary import one_line

__all__ = ["to_fragment", "to_html", "to_markdown"]

HEAD = ("Column", "Kind", "AUC", "Interval", "Effect", "Lift", "p", "p, corrected", "Beyond chance")
MOST_BARS = 25


def to_markdown(result: FalsePositiveAnalysis) -> str:
    """See :meth:`FalsePositiveAnalysis.to_markdown`."""
    lines = [f"# {markdown_text(_title(result))}", ""]
    lines += [f"- {markdown_text(one_line(r.sentence))}" for r in result.significant]
    lines += markdown_table(HEAD, [_cells(result, r) for r in result.rows])
    lines += ["", markdown_text(_method(result))]
    lines += [f"- {markdown_text(one_line(f'{name} was left out: {why}.'))}" for name, why in result.skipped.items()]
    return "\n".join(lines).rstrip() + "\n"


def to_fragment(result: FalsePositiveAnalysis) -> str:
    """The short form for notebooks."""
    said = "".join(f"<li>{escape(one_line(r.sentence))}</li>" for r in result.significant)
    head = "".join(f"<th>{escape(h)}</th>" for h in HEAD)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(one_line(cell))}</td>" for cell in _cells(result, r)) + "</tr>"
        for r in result.rows
    )
    left_out = "".join(f"<li>{escape(one_line(f'{n}: {why}'))}</li>" for n, why in result.skipped.items())
    return (
        f"<p><strong>{escape(_title(result))}</strong></p><ul>{said}</ul>{_bars(result)}"
        f"<table><tr>{head}</tr>{rows}</table><p>{escape(_method(result))}</p>"
        + (f"<p>Left out:</p><ul>{left_out}</ul>" if left_out else "")
    )


def to_html(result: FalsePositiveAnalysis) -> str:
    """See :meth:`FalsePositiveAnalysis.to_html`."""
    return page(_title(result), "warning" if result.significant else "calm", to_fragment(result))


def _title(result: FalsePositiveAnalysis) -> str:
    n = len(result.significant)
    columns = "no column sets" if not n else f"{n} column{' sets' if n == 1 else 's set'}"
    sizes = f"{result.members:,} against {result.reference_rows:,}"
    return f"{columns.capitalize()} {result.group} apart from {result.reference} ({sizes})"


def _method(result: FalsePositiveAnalysis) -> str:
    return (
        f"Intervals at {100 * result.confidence:g} %; p-values corrected over {len(result.rows)} columns "
        f"({result.correction}), beyond chance at {result.alpha:g}. AUC: chance that one of the {result.group} has the "
        "larger value; 0.5 says nothing."
    )


def _cells(result: FalsePositiveAnalysis, r: FalsePositiveRow) -> tuple[str, ...]:
    lift = "" if r.lift is None else f"{r.lift:.2f}"
    interval = f"{r.auc_low:.2f} to {r.auc_high:.2f}"
    beyond = "yes" if r.significant else "no"
    return (
        r.column, r.kind, f"{r.auc:.2f}", interval, f"{r.effect:+.2f}", lift, f"{r.p_value:.2g}", f"{r.p_adjusted:.2g}",
        beyond,
    )  # fmt: skip


def _bars(result: FalsePositiveAnalysis) -> str:
    """AUC with its interval, column by column, as a picture."""
    rows = result.rows[:MOST_BARS]
    if not rows:
        return ""
    height = 22 * len(rows) + 30
    parts = [f'<line x1="420" x2="420" y1="0" y2="{height - 24}" stroke="currentColor" stroke-dasharray="3 3"/>']
    for i, r in enumerate(rows):
        y, colour = 22 * i + 14, "#2563eb" if r.significant else "#888"
        x, low, high = (220 + 400 * v for v in (r.auc, r.auc_low, r.auc_high))
        parts.append(
            f'<text x="210" y="{y + 4}" text-anchor="end">{escape(one_line(r.column, 28))}</text>'
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
            f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="{colour}"/>'
        )
    parts += [f'<text x="{220 + 400 * v:.0f}" y="{height - 6}" text-anchor="middle">{v:g}</text>' for v in (0, 0.5, 1)]
    alt = escape("AUC and interval of each column: " + ", ".join(f"{one_line(r.column, 28)} {r.auc:.2f}" for r in rows))
    return (
        f'<svg viewBox="0 0 640 {height}" role="img" aria-label="{alt}" font-size="13" fill="currentColor" '
        f'style="max-width: 40em">{"".join(parts)}</svg>'
    )
