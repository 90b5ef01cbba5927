"""``failguard postmortem``: the post-mortem of a run, and reading an edited one back in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from failguard.cli.runs_store import Json, Store, open_registry

if TYPE_CHECKING:
    from failguard.runs.registry import Registry

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("postmortem")(postmortem)


def postmortem(
    run: Annotated[str, typer.Argument(metavar="RUN", help="MLflow run id, the beginning of it, or the run's name.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it to a file, to be edited.")] = None,
    apply: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read an edited one back in: its items become notes of the run.")
    ] = None,
    productive: Annotated[
        bool, typer.Option("--productive", help="State that the failure shows that the approach does not work.")
    ] = False,
    wasteful: Annotated[bool, typer.Option("--wasteful", help="State that it repeats what was known.")] = False,
    system: Annotated[bool, typer.Option("--system", help="State that it came from the machine.")] = False,
    record_dir: Annotated[Path, typer.Option(help="Where local records are.")] = Path("failguard_runs"),
    as_json: Json = False,
    store: Store = None,
) -> None:
    """Write the post-mortem of a run, filled in from its record. No names in it."""
    from failguard.cli.output import print_json, write
    from failguard.errors import InputError
    from failguard.runs.post_mortem_apply import state_kind
    from failguard.runs.post_mortems import post_mortem

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    kinds = [name for name, on in (("productive", productive), ("wasteful", wasteful), ("system", system)) if on]
    if len(kinds) > 1:
        raise InputError(f"--{kinds[0]} and --{kinds[1]} are given: a failure is of one kind.")
    registry = open_registry(store)
    if apply is not None:
        if kinds:
            raise InputError(f"--apply and --{kinds[0]} are given: state the kind in the file.")
        _apply(apply, registry, run)
        return
    for kind in kinds:
        if state_kind(registry, run, kind) is not None:
            typer.echo(f"Noted on the run: {kind}.", err=True)
    found = post_mortem(run, registry, record_dir=record_dir)
    if as_json:
        print_json(found.to_dict())
    elif output is None:
        typer.echo(found.to_markdown(), nl=False)
    else:
        text = found.to_markdown()
        if output.exists() and output.read_bytes() != text.encode("utf-8", "replace"):
            raise InputError(
                f"{str(output)!r} exists and may have been edited: apply it with --apply, or choose another name."
            )
        write(output, text)


def _apply(path: Path, registry: Registry, run: str) -> None:
    from failguard.cli.output import say
    from failguard.runs.post_mortem_apply import ARTIFACT, apply_edits
    from failguard.runs.post_mortem_edits import read_file

    done = apply_edits(read_file(path), registry, run)
    words = {"lesson": "Lesson", "next_step": "Action item", "classification": "Classification"}
    for note in done.written:
        what = words[note.kind]
        if not note.text:
            say(f"{what} taken back: {note.replaces}")
        else:
            say(f"{what}{' changed' if note.replaces else ''}: {note.text}")
    if not done.written:
        say("Everything in the file is on the run already.")
    before = f"; the one before is kept as {done.kept}" if done.kept else ""
    say(f"The file is stored with the run as {ARTIFACT}{before}.")
