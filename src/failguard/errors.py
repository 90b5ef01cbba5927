"""Errors that failguard raises on purpose. Each names what was given and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from failguard.data.report import DataReport
    from failguard.report.run_report import RunReport

__all__ = [
    "ConfigurationError",
    "DataQualityError",
    "FailGuardError",
    "InputError",
    "MissingExtraError",
    "TrainingFailure",
]


class FailGuardError(Exception):
    """Base of every error that failguard raises on purpose."""


class ConfigurationError(FailGuardError, ValueError):
    """A keyword, policy or detector setting cannot be used. Raised at construction, never during training."""


class InputError(FailGuardError, ValueError):
    """A file, series or record that was handed in cannot be read."""


class MissingExtraError(FailGuardError, ImportError):
    """A library that belongs to an extra of failguard is not installed."""


class DataQualityError(FailGuardError, ValueError):
    """Checks of a dataset failed.

    Attributes:
        report: The whole report, failed checks and milder findings.
    """

    def __init__(self, message: str, report: DataReport) -> None:
        super().__init__(message)
        self.report = report


class TrainingFailure(FailGuardError, RuntimeError):
    """The watched run failed and the user asked for an error (``raise_on_failure=True``).

    Attributes:
        report: The finished report of the run.
    """

    def __init__(self, message: str, report: RunReport) -> None:
        super().__init__(message)
        self.report = report
