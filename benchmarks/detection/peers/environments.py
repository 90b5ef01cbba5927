"""An environment for each peer: its own pinned packages, and behind them those of the main environment."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from venv import EnvBuilder

from benchmarks.detection.peers import Peer

__all__ = ["NotInstallable", "python_for"]

FOLDER = Path(__file__).resolve().parents[2] / ".peers"
INSTALL_TIMEOUT_S = 300


class NotInstallable(Exception):
    """A peer cannot be installed here; says why."""


def python_for(peer: Peer, folder: Path = FOLDER) -> str:
    """The interpreter to run a peer with. Its environment is made at the first call, and again when the pin changes.

    Args:
        peer: Which.
        folder: Where environments are kept.

    Raises:
        NotInstallable: The package index has no such version, cannot be reached, or the like.
    """
    if not peer.pin:
        return sys.executable
    home = folder / peer.name
    python = home / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    wanted = f"{peer.package}=={peer.pin}"
    mark = home / "installed.txt"
    if mark.exists() and mark.read_text() == wanted:
        return str(python)
    try:
        EnvBuilder(clear=True, with_pip=True).create(home)
        # Whatever a peer depends on, torch first of all, is in the main environment.
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", wanted]
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotInstallable(str(error).splitlines()[0]) from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["ERROR: pip failed"]
        raise NotInstallable(lines[-1].removeprefix("ERROR: "))
    _add_main_packages(home)
    mark.write_text(wanted)
    return str(python)


def _add_main_packages(home: Path) -> None:
    """A .pth file is read after the environment's own folder is on the path, so its packages come first."""
    own = sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)})
    main = sysconfig.get_path("purelib")
    (Path(own) / "main_environment.pth").write_text(f"import site; site.addsitedir({main!r})\n")
