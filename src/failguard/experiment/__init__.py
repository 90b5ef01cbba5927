"""``ExperimentManager``: runs any training function as an experiment, records it, and explains its failure."""

from failguard.experiment.manager import ExperimentManager
from failguard.experiment.result import ExperimentResult
from failguard.experiment.run import ExperimentRun

__all__ = ["ExperimentManager", "ExperimentResult", "ExperimentRun"]
