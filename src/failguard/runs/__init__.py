"""The team's memory: the registry of runs, their records, post-mortems, learning metrics and known failures."""

from __future__ import annotations

from failguard.runs.entry import Note, RunEntry

__all__ = ["Note", "RunEntry"]
