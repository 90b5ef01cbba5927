"""The documentation: it builds without a warning and without the network, and what it tells users to type exists."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from failguard.cli.app import app
from failguard.core.codes import CAUSES, FINDINGS

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"(?m)^( *)```(\w+)\n(.*?)^ *```", re.S)


def blocks(kind: str) -> list[tuple[str, str]]:
    return [
        (page.name, textwrap.dedent(m[3]))
        for page in PAGES
        for m in BLOCK.finditer(page.read_text(encoding="utf-8"))
        if m[2] == kind
    ]


def test_python_blocks_are_python() -> None:
    found = blocks("python")
    assert len(found) >= 6
    for name, text in found:
        ast.parse(text, name)


def test_commands_exist() -> None:
    names = {command.name for command in [*app.registered_commands, *app.registered_groups]}
    typed = [line for _, text in blocks("sh") for line in text.splitlines() if line.startswith("failguard ")]
    assert len(typed) >= 8
    for line in typed:
        assert shlex.split(line, comments=True)[1] in names, line


@pytest.mark.slow
def test_the_site_builds_without_warnings_and_needs_no_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for code in [*FINDINGS, *CAUSES]:
        assert (tmp_path / "catalogue" / f"{code}.html").is_file()
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?https?://", text), page.name
        assert ":class:" not in text, page.name
