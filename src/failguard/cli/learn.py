"""``failguard learn``: how a team learns from its runs."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from failguard.cli.runs_store import Json, NoRefresh, Store, open_registry

if TYPE_CHECKING:
    from failguard.runs.digest import Digest
    from failguard.runs.metrics import LearningMetrics

__all__ = ["register"]


class Period(str, Enum):
    """What a digest is of."""

    WEEK = "week"
    MONTH = "month"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("learn")(learn)


def learn(
    experiment: Annotated[str | None, typer.Argument(metavar="[EXPERIMENT]", help="Only runs of this one.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only runs that started since: 30d, 12h, 2026-03-01. A date is local time.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only runs that started before, in the same words.")] = None,
    member: Annotated[str | None, typer.Option(help="Only runs of this team member.")] = None,
    member_tag: Annotated[
        str, typer.Option(help="The tag that names the member; by default failguard.tag.member, else mlflow.user.")
    ] = "mlflow.user",
    digest: Annotated[
        Period | None, typer.Option(help="Write a digest of the last 7 or 30 days, compared with those before.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Its file, .md or .html.")] = None,
    send: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="Send it there, in Apprise syntax, such as slack://...")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Name the runs behind each number.")] = False,
    as_json: Json = False,
    store: Store = None,
    no_refresh: NoRefresh = False,
) -> None:
    """Show what the runs of a team taught: learning metrics, repeated failures, lessons, awards."""
    from datetime import UTC, datetime

    from failguard.cli.output import print_json
    from failguard.errors import InputError
    from failguard.runs.awards import awards
    from failguard.runs.digest import digest as make_digest
    from failguard.runs.metrics import LearningMetrics
    from failguard.runs.when import moment

    if digest is None and (output is not None or send):
        raise InputError("--output and --send are for a digest: add --digest week or --digest month.")
    if digest is not None and since is not None:
        raise InputError("--digest says itself since when: leave --since out, or choose its end with --until.")
    if output is not None and output.suffix.lower() not in (".md", ".html"):
        raise InputError(f"{str(output)!r} is neither .md nor .html.")
    now = datetime.now(UTC)
    zone = now.astimezone().tzinfo or UTC
    first = moment(since, now)
    last = moment(until, now, is_end=True) or (now if first is not None or digest is not None else None)
    registry = open_registry(store, no_refresh=no_refresh)
    metrics = LearningMetrics.from_registry(
        registry, experiment, first, last, member, member_tag=member_tag, zone=zone, refresh=False
    )
    if digest is not None:
        assert last is not None
        _digest(make_digest(metrics, digest.value, last, experiment=experiment), output, send or [], as_json)
    elif as_json:
        weeks = [week.to_dict() for week in metrics.by_week()]
        print_json({**metrics.to_dict(), "awards": [a.to_dict() for a in awards(metrics)], "by_week": weeks})
    else:
        _show(metrics, explain)


def _digest(found: Digest, output: Path | None, send: list[str], as_json: bool) -> None:
    from failguard.cli.output import print_json, write
    from failguard.errors import FailGuardError
    from failguard.sinks.messages import Messenger

    messenger = Messenger(send)  # refuses an address before anything is written
    if output is not None:
        write(output, found.to_html() if output.suffix.lower() == ".html" else found.to_markdown())
    if as_json:
        print_json(found.to_dict())
    elif output is None and not send:
        typer.echo(found.to_markdown(), nl=False)
    failures = messenger.send(found.title, found.to_text(), found)
    if failures:
        raise FailGuardError(f"The digest could not be sent: {'; '.join(failures)}.")
    if send:
        typer.echo(f"Sent to {len(send)} address{'es' if len(send) > 1 else ''}.", err=True)


def _show(metrics: LearningMetrics, explain: bool) -> None:
    from failguard.cli.output import say, say_labelled, table
    from failguard.runs.awards import awards
    from failguard.runs.digest import numbers_of, sections_of, value_text

    if not metrics.judged or metrics.first is None or metrics.last is None:
        say("No runs. Watch some with FailGuard, or look further back with --since.")
        return
    first, last = (time.astimezone(metrics.zone) for time in (metrics.first, metrics.last))
    say(f"{len(metrics.judged):,} runs, {first:%Y-%m-%d} to {last:%Y-%m-%d}")
    for name, label, basis in numbers_of(metrics):
        say_labelled(label, f"{value_text(metrics, name)}. {basis}")
        runs = metrics.details[name].runs if explain and name in metrics.details else ()
        if runs:
            say_labelled("", ", ".join(run[:8] for run in runs))
    for section in sections_of(metrics):
        say()
        say(f"{section.title}")
        if section.rows:
            table([section.head, *section.rows])
        if section.remark:
            say(section.remark)
    if explain:
        say()
        for award in awards(metrics):
            say_labelled(award.name, f"{award.rule} Runs: {', '.join(run[:8] for run in award.runs)}.")
