"""Pages that are made from the program itself: the catalogue of findings and causes, and measured figures."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from failguard.cli.reference import Page, pages
from failguard.core.codes import CAUSES, FINDINGS

ROOT = Path(__file__).parents[1]
_RESULTS = re.compile(r"<!-- results: ([\w-]+) -->")
_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the catalogue into the menu."""
    assert config.nav is not None
    config.nav.append(
        {
            "Findings and causes": [
                "catalogue/index.md",
                {"Findings": [f"catalogue/{_file(code)}" for code in FINDINGS]},
                {"Causes": [f"catalogue/{_file(code)}" for code in CAUSES]},
            ]
        }
    )
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    made = {"catalogue/index.md": _index(), "detection.md": _detection()}
    made.update({f"catalogue/{_file(p.code)}": _page(p) for p in pages()})
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put in what a benchmark measured: ``<!-- results: NAME -->`` is its table, without the title."""
    return _RESULTS.sub(lambda m: _results(m[1]), markdown)


def on_page_content(html: str, **_: object) -> str:
    """Docstrings are written for several readers; their roles are code here."""
    html = re.sub(r":\w+:<code>~?(?:[\w.]*\.)?(\w+)</code>", r"<code>\1</code>", html)
    return html.replace("Example::", "Example:")


def _results(name: str) -> str:
    """What a benchmark wrote last, one heading level down; its pictures and links stay in the repository."""
    path = ROOT / "benchmarks" / "results" / f"{name}.md"
    if not path.exists():
        return "No figures of this version are there yet."
    text = re.sub(r"(?m)^#", "##", path.read_text(encoding="utf-8").partition("\n")[2])
    return re.sub(r"(?m)^!\[.*\n|\[([^\]]*)\]\([^)]*\)", r"\1", text).strip()


def _file(code: str) -> str:
    return f"{code}.md"


def _link(code: str) -> str:
    return f"[`{code}`]({_file(code)})"


def _index() -> str:
    lines = [
        "# Findings and causes",
        "",
        "A **finding** is what was seen, a **cause** is what explains it. Both are stable names, in reports, tags, "
        "alerts and filters. The same text is printed by `failguard explain CODE`.",
        "",
        "## Findings",
        "",
        "| code | usual severity | what was seen |",
        "| --- | --- | --- |",
        *(f"| {_link(f.code)} | {f.severity} | {f.meaning} |" for f in FINDINGS.values()),
        "",
        "## Causes",
        "",
        "| code | what it is |",
        "| --- | --- |",
        *(f"| {_link(c.code)} | {c.meaning} |" for c in CAUSES.values()),
    ]
    return "\n".join(lines) + "\n"


def _page(found: Page) -> str:
    lines = [f"# {found.code}", "", found.meaning, ""]
    if found.kind == "finding":
        lines += [f"A finding, usually of severity `{found.severity}`.", ""]
        lines += ["## How it is found", "", _markdown(found.document) or "This version does not look for it yet.", ""]
        if found.thresholds:
            lines += ["| threshold | default |", "| --- | --- |"]
            lines += [f"| `{name}` | `{value}` |" for name, value in found.thresholds]
            lines.append("")
        if found.example[1]:
            lines += ["## Example", "", f"{found.example[0].capitalize()}:", "", f"> {found.example[1]}", ""]
        if found.related:
            lines += ["## Causes that are considered", "", ", ".join(map(_link, found.related)) + ".", ""]
            lines += ["## What to try", "", "| cause | remedy |", "| --- | --- |"]
            lines += [f"| {_link(cause)} | {remedy} |" for cause, remedy in found.remedies]
            lines += ["", "With what is known of a run, the report gives values."]
    else:
        lines += ["## What to try", "", found.remedies[0][1] if found.remedies else "Not known yet.", ""]
        lines += ["With what is known of a run, the report gives values.", ""]
        if found.evidence:
            lines += ["## What is looked at", "", *(f"- {line}" for line in found.evidence), ""]
        if found.config:
            lines += [f"Configuration: {', '.join(f'`{name}`' for name in found.config)}.", ""]
        if found.related:
            lines += ["## Findings it can explain", "", ", ".join(map(_link, found.related)) + ".", ""]
    return "\n".join(lines) + "\n"


def _markdown(document: str) -> str:
    """A docstring as Markdown: roles and double backticks as code, sections as words in bold, attributes as a list."""
    text = _ROLE.sub(r"`\1`", document).replace("``", "`")
    text = re.sub(r"(?m)^Attributes:\n((?:    .*\n?)+)", lambda m: _attributes(m[1]), text)
    return re.sub(r"(?m)^(Attributes|Evidence|Sources?|Example):", r"**\1:**", text)


def _attributes(block: str) -> str:
    """The lines of an attributes section as a list."""
    lines = [re.sub(r"^([\w, ]+):", r"- `\1`:", line[4:]) for line in block.splitlines()]
    return "Attributes:\n\n" + "\n".join(lines) + "\n"


def _detection() -> str:
    """How detection is measured, with the tables that the benchmark wrote last."""
    lines = [
        "# How detection is measured",
        "",
        "Every detector carries series that must trip it and series that must not; the tests go through both. "
        "`make bench-detection` trains failing programs, some of them published by others as failing, and healthy "
        "ones, and counts what was found, what was missed and what was alarmed on for nothing.",
        "",
    ]
    results = sorted((ROOT / "benchmarks" / "results").glob("detection*.md"))
    for result in results:
        lines += [re.sub(r"(?m)^# ", "## ", result.read_text(encoding="utf-8")), ""]
    if not results:
        lines += ["No figures of this version are there yet.", ""]
    return "\n".join(lines)
