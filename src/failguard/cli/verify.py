"""``failguard verify``: try the remedies of a failed run on its recorded batches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from failguard.trials.results import Verification

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("verify")(verify)
    app.command("replay")(replay)


RECORD_HELP = "Id of a local record or its beginning, or its folder."
LIMIT_S, STEPS = 120.0, 48


def verify(
    record: Annotated[str, typer.Argument(help=RECORD_HELP)],
    record_dir: Annotated[Path, typer.Option(help="Where local records are.")] = Path("failguard_runs"),
    limit_s: Annotated[float, typer.Option(min=5.0, help="Seconds for all trials.")] = LIMIT_S,
    steps: Annotated[int, typer.Option(min=8, max=10_000, help="Updates of one trial.")] = STEPS,
    device: Annotated[str, typer.Option(help="cpu, or a device of torch such as cuda:0.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the trials as JSON.")] = False,
) -> None:
    """Try the remedies of a failed run for some updates, and say which one removed the symptom.

    Needs a run of FailGuard(verify_remedies=True) or verify_remedies="capture". The capsule of the record is
    unpickled, which runs code that is stored in it: verify records of your own only. The trials run in a process of
    their own, in a temporary folder. What they give is added to the record.
    """
    from failguard.cli.output import print_json
    from failguard.trials.process import run_trials
    from failguard.trials.record import add_to_record

    folder = _record(record, record_dir)
    found = run_trials(folder / "capsule", limit_s=limit_s, steps=steps, device=device)
    add_to_record(folder, found)
    if as_json:
        print_json(found.to_dict())
    else:
        _show(found)


def replay(
    record: Annotated[str, typer.Argument(help=RECORD_HELP)],
    record_dir: Annotated[Path, typer.Option(help="Where local records are.")] = Path("failguard_runs"),
    limit_s: Annotated[float, typer.Option(min=5.0, help="Seconds.")] = LIMIT_S,
    device: Annotated[str, typer.Option(help="cpu, or a device of torch such as cuda:0.")] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the steps as JSON.")] = False,
) -> None:
    """Train the last recorded steps before a failure again, as they were, and compare with what was recorded.

    Needs a capsule, which is unpickled, as for failguard verify: replay records of your own only.
    """
    from failguard.cli.output import print_json, say, table
    from failguard.errors import InputError
    from failguard.trials.process import run_trials

    folder = _record(record, record_dir)
    found = run_trials(folder / "capsule", limit_s=limit_s, device=device, replay_only=True)
    if as_json:
        print_json(found.to_dict())
        return
    again = found.original
    if again is None or found.from_step is None:
        raise InputError(found.reason or "Nothing could be trained again.")
    rows = [("step", "loss", "recorded loss", "gradient norm")]
    for i, loss in enumerate(again.losses):
        recorded = again.recorded_losses[i] if i < len(again.recorded_losses) else None
        norm = again.norms[i] if i < len(again.norms) else None
        rows.append((str(found.from_step + i), _number(loss), _number(recorded), _number(norm)))
    table(rows)
    if again.error:
        say(again.error)
    elif again.ended in ("loss", "gradient"):
        say(f"At step {found.from_step + len(again.losses) - 1} the {again.ended} was not finite.")
    for remark in found.remarks:
        say(f"Note: {remark}")


def _record(record: str, record_dir: Path) -> Path:
    """The folder of a record. A capsule may be named too."""
    from failguard.core.capsule import read_info
    from failguard.sinks.records import find_record

    folder = Path(record) if Path(record).is_dir() else find_record(record_dir, record)
    if folder.name == "capsule":
        folder = folder.parent
    read_info(folder / "capsule")
    return folder


def _show(found: Verification) -> None:
    from failguard.cli.output import say, say_labelled
    from failguard.report.summary import cause_title, duration

    titles = {
        "verified": "A remedy removed the symptom",
        "not_removed": "No remedy removed the symptom",
        "not_reproduced": "The failure did not come back",
        "not_tried": "Nothing could be said",
    }
    say(titles[found.outcome])
    if found.outcome != "verified":
        say_labelled("Why", found.reason)
    for trial in found.trials:
        label = {True: "helped", False: "did not", None: "not tried"}[trial.removed]
        say_labelled(label, f"{cause_title(trial.cause)}: {trial.sentence}")
    if found.from_step is not None:
        say_labelled(
            "how", f"from step {found.from_step} on {found.batches} recorded batches, in {duration(found.seconds)}"
        )
    for remark in found.remarks:
        say_labelled("note", remark)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
