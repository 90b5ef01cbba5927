"""``failguard explain``: what a finding or a cause means."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Annotated

import typer

__all__ = ["register"]

# What docstrings carry for the API pages: ``code`` and :class:`~package.Name`.
_ROLE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def explain(
    code: Annotated[str | None, typer.Argument(help="Such as loss.divergence or learning_rate_too_high.")] = None,
) -> None:
    """Explain a finding or a cause; without a code, list all of them."""
    from failguard.core.codes import CAUSES, FINDINGS
    from failguard.errors import InputError

    if code is None:
        _list()
    elif code in FINDINGS or code in CAUSES:
        _show(code)
    else:
        near = get_close_matches(code, [*FINDINGS, *CAUSES], n=3, cutoff=0.5)
        remedy = f"Did you mean {' or '.join(near)}?" if near else "`failguard explain` lists all codes."
        raise InputError(f"There is no finding or cause {code[:80]!r}. {remedy}")


def _list() -> None:
    from failguard.cli.reference import pages

    found = list(pages())
    typer.echo("Findings, what was seen (* is looked for in this version):")
    for page in found:
        if page.kind == "finding":
            typer.echo(f"  {'*' if page.document else ' '} {page.code:<32} {page.meaning}")
    typer.echo("\nCauses, what explains it:")
    for page in found:
        if page.kind == "cause":
            typer.echo(f"    {page.code:<32} {page.meaning}")


def _show(code: str) -> None:
    from failguard.cli.output import say, say_labelled
    from failguard.cli.reference import page

    found = page(code)
    usually = f", usually of severity {found.severity}" if found.severity else ""
    typer.echo(f"{code}: a {found.kind}{usually}.\n{found.meaning}\n")
    if found.kind == "finding":
        document = found.document or "This version does not look for it yet."
        typer.echo(_plain(document))
        if found.thresholds:
            typer.echo(f"\nDefaults: {', '.join(f'{name} = {value}' for name, value in found.thresholds)}.")
        name, said = found.example
        if said:
            typer.echo(f"\nExample ({name}): {said}")
        if found.related:
            typer.echo(f"\nCauses that are considered: {', '.join(found.related)}.")
            say("What to try, by cause:")
            for cause, remedy in found.remedies:
                say_labelled("", f"{cause}: {remedy}")
        return
    if not found.related:
        typer.echo("This version does not name it yet.")
        return
    typer.echo(f"What to try: {found.remedies[0][1]}")
    typer.echo(f"It can explain: {', '.join(found.related)}.")
    if found.evidence:
        typer.echo("What is looked at for and against it:")
        for line in found.evidence:
            say_labelled("", line)
    if found.config:
        typer.echo(f"Configuration that is looked at: {', '.join(found.config)}.")


def _plain(document: str) -> str:
    return _ROLE.sub(r"\1", document).replace("`", "")
