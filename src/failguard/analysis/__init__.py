"""Finished runs: ``analyze`` for logs and series, ``FailureDetector`` for a stream of metrics. Needs no framework."""

from failguard.analysis.failure_detector import FailureDetector
from failguard.analysis.finished import analyze

__all__ = ["FailureDetector", "analyze"]
