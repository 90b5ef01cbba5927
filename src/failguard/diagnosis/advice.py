"""Advice on an error or a configuration alone, from the same tables as the diagnosis of a watched run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from failguard.core.diagnosis import Diagnosis
from failguard.core.exceptions import exception_facts
from failguard.core.facts import Facts
from failguard.core.finding import Finding, Severity
from failguard.core.history import History
from failguard.core.observation import ExceptionFacts
from failguard.diagnosis.config_lint import config_issues
from failguard.diagnosis.configuration import facts_of
from failguard.diagnosis.diagnose import diagnose

__all__ = ["check_config", "diagnose_error", "suggest_fixes"]


def check_config(config: Mapping[str, Any] | Facts) -> list[str]:
    """Look for suspicious values: a rate for the optimizer, momentum and betas, decay, clipping, batch size, warm-up.

    Args:
        config: The run's hyperparameters, or the facts of a run.

    Returns:
        One sentence each, with the value and the reason. Empty: nothing looks wrong.
    """
    return [issue.text for issue in config_issues(_facts(config))]


def diagnose_error(error: BaseException | ExceptionFacts, config: Mapping[str, Any] | Facts | None = None) -> Diagnosis:
    """Explain an exception.

    Args:
        error: What training raised.
        config: The run's hyperparameters, or the facts of a run.

    Returns:
        At most three causes with evidence and remedies.
    """
    exception = exception_facts(error) if isinstance(error, BaseException) else error
    history = History(facts=_facts(config or {}))
    code, severity = ("run.interrupted", Severity.WARNING) if exception.interrupt else ("run.exception", Severity.FATAL)
    root = Finding(code, severity, -1, 0, f"{exception.type_name}: {exception.message}")
    return diagnose([root], root, history, exception)


def suggest_fixes(
    error: BaseException | ExceptionFacts | None, config: Mapping[str, Any] | Facts | None = None
) -> list[str]:
    """What to do about an error, and about values that look wrong.

    Args:
        error: What training raised; ``None`` to look at the configuration only.
        config: The run's hyperparameters, or the facts of a run.

    Returns:
        Remedies of the causes of the error, best first, then those of the configuration, each once.
    """
    causes = () if error is None else diagnose_error(error, config).causes
    fixes = [cause.remedy for cause in causes if cause.remedy]
    fixes += [issue.fix for issue in config_issues(_facts(config or {}))]
    return list(dict.fromkeys(fixes))


def _facts(config: Mapping[str, Any] | Facts) -> Facts:
    return config if isinstance(config, Facts) else facts_of(config)
