"""``failguard demo``: a first look."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


class Framework(str, Enum):
    """What the demo trains with."""

    LIGHTNING = "lightning"
    KERAS = "keras"
    ALL = "all"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    framework: Annotated[Framework, typer.Option(help="What to train with.")] = Framework.ALL,
    directory: Annotated[Path, typer.Option(help="Where records and the MLflow store go.")] = Path("failguard_demo"),
) -> None:
    """Train, fail, diagnose: healthy and failing runs on handwritten digits, in about two minutes."""
    from failguard.demo import run_demo

    chosen = ("lightning", "keras") if framework is Framework.ALL else (framework.value,)
    run_demo(frameworks=chosen, directory=directory)
