"""The command ``failguard``. One module a command; each imports what it needs when it runs."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run this process's command line. Exits with 0: fine, 1: a check asked for fails, 2: usage or environment."""
    from failguard.cli.app import app

    app()
