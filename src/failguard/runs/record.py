"""The record of an experiment; written with every run, made here from a run of the registry too."""

from __future__ import annotations

from failguard.report.experiment_record import ExperimentRecord

__all__ = ["ExperimentRecord"]
