"""An exception, reduced to short text without secrets."""

from __future__ import annotations

import linecache
import os
import re
import sysconfig
import traceback
from functools import cache
from types import TracebackType

from failguard.core.observation import ExceptionFacts
from failguard.core.redaction import cut, redact_text

__all__ = ["exception_facts"]

MAX_MESSAGE = 4_000  # characters
MAX_TRACE = 100_000  # characters
WORKER_TRACE = "Traceback (most recent call last):\n"
_FRAME = re.compile(r'\s*File "([^"\n]{1,1000})", line (\d+), in ([^\n]{1,200})')
INTERRUPTS = (KeyboardInterrupt, SystemExit, GeneratorExit)


def exception_facts(error: BaseException) -> ExceptionFacts:
    """What there is to know about an exception that ended training.

    Args:
        error: The exception. An odd one (its ``str`` raises, its cause is itself) is survived.

    Returns:
        Type, message, traceback (at most 100,000 characters, causes included) and the user's own innermost frame, all
        redacted. Lightning raises SystemExit for a Ctrl-C; both count as an interrupt.
    """
    return ExceptionFacts(
        type_name=type(error).__name__,
        message=cut(redact_text(_text(error)[: 2 * MAX_MESSAGE]), MAX_MESSAGE),
        trace=_trace(error),
        frame=_user_frame(error),
        interrupt=_is_interrupt(error),
    )


def _is_interrupt(error: BaseException) -> bool:
    # CancelledError, trio.Cancelled and the like derive from BaseException only, as interrupts do.
    return isinstance(error, INTERRUPTS) or not isinstance(error, Exception)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # noqa: BLE001  # the user's own __str__
        return f"<its text cannot be read: {type(broken).__name__}>"


def _trace(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001  # the user's own __str__, __notes__ or source loader
        frames = "".join(traceback.format_tb(error.__traceback__, limit=-100))
        text = f"Traceback (most recent call last):\n{frames}{type(error).__name__}: {_text(error)}\n"
    half = MAX_TRACE // 2 - 100
    if len(text) <= MAX_TRACE:
        return cut(redact_text(text), MAX_TRACE)
    # The beginning says where, the end says what: both are kept. Whole lines, so that no secret is cut in two.
    head, tail = text[:half].rpartition("\n")[0], text[-half:].partition("\n")[2]
    return cut(f"{redact_text(head)}\n... [cut, {len(text):,} characters] ...\n{redact_text(tail)}", MAX_TRACE)


def _user_frame(error: BaseException) -> str | None:
    """``"file.py:12 in function: source line"`` of the innermost frame that is the user's own.

    The frames of the exception itself come first; where a framework raised it anew, those of its cause or context.
    """
    in_worker = _frame_in_worker(_text(error))
    if in_worker is not None:
        return in_worker
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        try:
            found = _innermost(current.__traceback__)
        except Exception:  # noqa: BLE001  # the user's own source loader, or a working folder that was removed
            return None
        if found is not None:
            return found
        current = current.__cause__ or current.__context__
    return None


def _frame_in_worker(message: str) -> str | None:
    """The user's innermost frame of a worker process, which torch and multiprocessing hand over as text."""
    _, marker, trace = message[-MAX_TRACE:].rpartition(WORKER_TRACE)
    if not marker:
        return None
    found = None
    lines = trace.splitlines()
    for i, line in enumerate(lines):
        match = _FRAME.match(line)
        if match is not None and _is_users(match[1]):
            source = lines[i + 1].strip() if i + 1 < len(lines) and not _FRAME.match(lines[i + 1]) else ""
            place = f"{os.path.basename(match[1])}:{match[2]} in {match[3]}"
            found = f"{place}: {source[:2000]}" if source else place
    return None if found is None else cut(redact_text(found), 500)


def _innermost(tb: TracebackType | None) -> str | None:
    found = None
    while tb is not None:
        if _is_users(tb.tb_frame.f_code.co_filename):
            found = tb
        tb = tb.tb_next
    if found is None:
        return None
    code = found.tb_frame.f_code
    line = linecache.getline(code.co_filename, found.tb_lineno, found.tb_frame.f_globals).strip()
    place = f"{os.path.basename(code.co_filename)}:{found.tb_lineno} in {code.co_name}"
    return cut(redact_text(f"{place}: {line[:2000]}" if line else place), 500)


def _is_users(filename: str) -> bool:
    """Whether a source file is the user's: not installed, not Python's own, not failguard's."""
    if filename.startswith("<"):  # frozen modules and generated code; notebooks and `python -c` are the user's
        return filename.startswith(("<ipython", "<stdin", "<string"))
    path = os.path.abspath(filename)
    if f"{os.sep}site-packages{os.sep}" in path or f"{os.sep}dist-packages{os.sep}" in path:
        return False
    return not path.startswith(_not_users())


@cache
def _not_users() -> tuple[str, ...]:
    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    library = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    paths = {os.path.join(p, "") for path in library if path for p in (path, os.path.realpath(path))}
    return (os.path.join(own, ""), *sorted(paths))
