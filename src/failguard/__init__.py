"""failguard watches training runs, acts when they fail, explains why, and keeps what was learned.

The callbacks are in ``failguard.lightning``, ``failguard.keras`` and ``failguard.torch``. Names here are loaded when
first used: importing failguard imports no framework and does nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from failguard._version import __version__

if TYPE_CHECKING:
    from failguard.analysis import FailureDetector, analyze
    from failguard.core.data_checks import DataChecks
    from failguard.core.decision import Action
    from failguard.core.diagnosis import Cause, Diagnosis
    from failguard.core.finding import Finding, Severity, Status
    from failguard.data.false_positives import analyze_false_positives
    from failguard.data.profile import profile_dataset
    from failguard.data.split import check_split
    from failguard.data.thresholds import DataThresholds
    from failguard.data.validate import validate_dataset
    from failguard.errors import ConfigurationError, DataQualityError, FailGuardError, InputError, TrainingFailure
    from failguard.experiment import ExperimentManager
    from failguard.monitor import resource_monitor
    from failguard.policy import Policy
    from failguard.report.run_report import RunReport
    from failguard.resources import ResourceLimits
    from failguard.runs.memory_settings import FailureMemory

_HOMES = {
    "Action": "failguard.core.decision",
    "Cause": "failguard.core.diagnosis",
    "ConfigurationError": "failguard.errors",
    "DataChecks": "failguard.core.data_checks",
    "DataQualityError": "failguard.errors",
    "DataThresholds": "failguard.data.thresholds",
    "Diagnosis": "failguard.core.diagnosis",
    "ExperimentManager": "failguard.experiment",
    "FailGuardError": "failguard.errors",
    "FailureDetector": "failguard.analysis",
    "FailureMemory": "failguard.runs.memory_settings",
    "Finding": "failguard.core.finding",
    "InputError": "failguard.errors",
    "Policy": "failguard.policy",
    "ResourceLimits": "failguard.resources",
    "RunReport": "failguard.report.run_report",
    "Severity": "failguard.core.finding",
    "Status": "failguard.core.finding",
    "TrainingFailure": "failguard.errors",
    "analyze": "failguard.analysis",
    "analyze_false_positives": "failguard.data.false_positives",
    "check_split": "failguard.data.split",
    "profile_dataset": "failguard.data.profile",
    "resource_monitor": "failguard.monitor",
    "validate_dataset": "failguard.data.validate",
}

__all__ = [
    "Action",
    "Cause",
    "ConfigurationError",
    "DataChecks",
    "DataQualityError",
    "DataThresholds",
    "Diagnosis",
    "ExperimentManager",
    "FailGuardError",
    "FailureDetector",
    "FailureMemory",
    "Finding",
    "InputError",
    "Policy",
    "ResourceLimits",
    "RunReport",
    "Severity",
    "Status",
    "TrainingFailure",
    "__version__",
    "analyze",
    "analyze_false_positives",
    "check_split",
    "profile_dataset",
    "resource_monitor",
    "validate_dataset",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'failguard' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
