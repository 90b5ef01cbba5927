"""The identity of a failure across runs."""

from __future__ import annotations

import hashlib
import json
import math
import re

from failguard.core.codes import NON_FINITE_CODES
from failguard.core.diagnosis import Diagnosis
from failguard.core.facts import Facts
from failguard.core.finding import Finding
from failguard.core.observation import ExceptionFacts

__all__ = ["fingerprint"]

# What differs between two runs that fail alike: addresses, paths, numbers, sizes, ranks, devices.
_NOISE = (
    (re.compile(r"0x[0-9a-fA-F]+"), "<address>"),
    (re.compile(r"(?:[A-Za-z]:)?[/\\](?:[\w.~+@%-]+[/\\])*[\w.~+@%-]+"), "<path>"),
    (re.compile(r"\b(?:cuda|gpu|mps|xpu|tpu|cpu|rank|pid)[:=# ]*\d+", re.IGNORECASE), "<device>"),
    (re.compile(r"\b[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"[-+]?\d[\d,_]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?:\s*(?:[KMGT]i?B|bytes|s|ms)\b)?"), "<number>"),
    (re.compile(r"\s+"), " "),
)
# What happens at one step; other findings are made over many steps.
_OF_A_STEP = NON_FINITE_CODES | {"run.exception", "resource.oom"}
_FRAME = re.compile(r"^(?P<file>.*?):\d+ in (?P<function>[^:]+)(?:: (?P<line>.*))?$", re.DOTALL)


def fingerprint(
    root: Finding | None, diagnosis: Diagnosis, exception: ExceptionFacts | None, facts: Facts
) -> str | None:
    """Identify a failure, so that the same one is known again in another run.

    It covers the root finding's code, the likely cause, the module's role without its indices, the phase of the run,
    the exception's type, call site and text without what changes from run to run, the optimizer and the power of ten
    of its rate.

    Returns:
        16 hexadecimal characters; ``None`` when nothing failed.
    """
    if root is None and exception is None:
        return None
    parts = {
        "root": root.code if root else None,
        "cause": diagnosis.likely_cause,
        "module": _role(root.where.module) if root else None,
        "tensor": root.where.tensor if root else None,
        "phase": _phase(root, facts) if root else None,
        "exception": None if exception is None else exception.type_name,
        "frame": None if exception is None else _call_site(exception.frame),
        "text": None if exception is None else normalise(exception.message),
        "optimizer": facts.optimizer.name.lower() or None,
        "rate": _rate_bucket(facts.optimizer.learning_rate),
    }
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def normalise(text: str) -> str:
    """The text without numbers, sizes, addresses, paths, devices, ranks and process ids; at most 500 characters."""
    for pattern, word in _NOISE:
        text = pattern.sub(word, text)
    return text.strip().lower()[:500]


def _phase(root: Finding, facts: Facts) -> str:
    """``"start"``: before any update of the weights; ``"validation"``: seen there; else ``"training"``."""
    if root.code in _OF_A_STEP and root.step < max(facts.accumulate_batches, 1):
        return "start"
    return "validation" if root.code.startswith("metric.") else "training"


def _role(module: str | None) -> str | None:
    """``"encoder.layers.3.linear_1"`` -> ``"encoder.layers.linear"``: what it is, not which."""
    if module is None:
        return None
    names = [re.sub(r"[_-]?\d+", "", part) for part in re.split(r"[./]", module)]
    return ".".join(n for n in names if n)


def _call_site(frame: str | None) -> str | None:
    """File name and function, without the folder and the line number, so that an edit above does not change it."""
    if not frame:
        return None
    match = _FRAME.match(frame)
    if match is None:
        return normalise(frame)
    name = re.split(r"[/\\]", match["file"])[-1]
    # A cell of a notebook has another name at every run.
    name = re.sub(r"\d+", "", name)
    return f"{name}:{match['function'].strip()}"


def _rate_bucket(rate: float | None) -> int | None:
    """The power of ten of the learning rate."""
    if rate is None or not math.isfinite(rate) or rate <= 0:
        return None
    return math.floor(math.log10(rate) + 1e-9)
