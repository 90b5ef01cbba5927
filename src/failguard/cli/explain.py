"""``failguard explain``: what a finding or a cause means."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import Field, fields, is_dataclass
from difflib import get_close_matches
from typing import Annotated, Any

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
    elif code in FINDINGS:
        _finding(code)
    elif code in CAUSES:
        _cause(code)
    else:
        near = get_close_matches(code, [*FINDINGS, *CAUSES], n=3, cutoff=0.5)
        remedy = f"Did you mean {' or '.join(near)}?" if near else "`failguard explain` lists all codes."
        raise InputError(f"There is no finding or cause {code[:80]!r}. {remedy}")


def _list() -> None:
    from failguard.core.codes import CAUSES, FINDINGS

    detected = _detectors()
    typer.echo("Findings, what was seen (* has a detector in this version):")
    for code, finding in FINDINGS.items():
        typer.echo(f"  {'*' if code in detected else ' '} {code:<32} {finding.meaning}")
    typer.echo("\nCauses, what explains it:")
    for cause in CAUSES.values():
        typer.echo(f"    {cause.code:<32} {cause.meaning}")


def _finding(code: str) -> None:
    from failguard.core.codes import FINDINGS
    from failguard.diagnosis.causes import KNOWLEDGE

    finding = FINDINGS[code]
    typer.echo(f"{code}: a finding, usually of severity {finding.severity}.\n{finding.meaning}\n")
    detector = _detectors().get(code)
    if detector is None:
        typer.echo("This version has no detector of its own for it.")
    else:
        typer.echo(_plain(inspect.getdoc(type(detector)) or ""))
        defaults = [f"{f.name} = {getattr(detector, f.name)}" for f in _settings_of(detector)]
        if defaults:
            typer.echo(f"\nDefaults: {', '.join(defaults)}.")
    causes = [row.code for row in KNOWLEDGE if code in row.symptoms]
    if causes:
        typer.echo(f"\nCauses that are considered: {', '.join(causes)}.")


def _cause(code: str) -> None:
    from failguard.core.codes import CAUSES
    from failguard.core.history import History
    from failguard.diagnosis.case import Case
    from failguard.diagnosis.causes import KNOWLEDGE

    typer.echo(f"{code}: a cause.\n{CAUSES[code].meaning}\n")
    row = next((row for row in KNOWLEDGE if row.code == code), None)
    if row is None:
        typer.echo("This version does not name it yet.")
        return
    typer.echo(f"What to try: {row.remedy(Case([], None, History(), None))}")
    typer.echo(f"It can explain: {', '.join(row.symptoms)}.")
    if row.config:
        typer.echo(f"Configuration that is looked at: {', '.join(row.config)}.")


def _settings_of(detector: Any) -> Sequence[Field[Any]]:
    return fields(detector) if is_dataclass(detector) else ()


def _detectors() -> dict[str, Any]:
    """Each detector by its code."""
    from failguard.detectors.presets import detectors_for
    from failguard.settings import Settings

    detectors = detectors_for(Settings(detectors="full", patience=1, sinks=[]))
    return {d.code: d for d in detectors}


def _plain(document: str) -> str:
    return _ROLE.sub(r"\1", document).replace("``", "")
