"""What MLflow gets of an experiment beyond what it gets of a watched run: metrics and result, under plain names."""

from __future__ import annotations

from failguard.core.finding import Status
from failguard.core.redaction import REDACTED, cut
from failguard.report.run_report import RunReport
from failguard.sinks.mlflow_values import MAX_PARAM, MetricRow, flat_config, params, valid_name

__all__ = ["early_params", "experiment_rows", "result_params"]


def early_params(report: RunReport) -> dict[str, str]:
    """The params that may be logged before training.

    Those that a user who logs the same config would spell the same way: MLflow refuses a param with another value,
    and that would end the training. The others follow at the end.
    """
    config = flat_config(report.run.config)
    early = {name for name, value in config.items() if _is_spelt_alike(value)} | {"hypothesis"}
    return {name: value for name, value in params(report).items() if name in early}


def result_params(report: RunReport) -> dict[str, str]:
    """``outcome`` (``"success"``, ``"failed"``, ``"interrupted"``) and ``error_type``."""
    outcome = "failed" if report.failing else "interrupted" if report.status is Status.INTERRUPTED else "success"
    found = {"outcome": outcome}
    if report.exception is not None:
        found["error_type"] = cut(report.exception.type_name, MAX_PARAM)
    return found


def experiment_rows(report: RunReport, sent: set[tuple[str, int, str]]) -> list[MetricRow]:
    """The values of an experiment's metrics that MLflow has not got yet.

    Args:
        report: The report.
        sent: Name, step and text of each value that was sent.
    """
    return [
        (name, value, step)
        for given, points in report.metrics.items()
        for name in (valid_name(given),)
        for step, value in points
        if (name, step, str(value)) not in sent
    ]


def _is_spelt_alike(value: object) -> bool:
    if isinstance(value, str):  # not what redaction made of a secret, a long text, an array or an object
        return REDACTED not in value and "[cut, " not in value and not value.startswith("<")
    return value is None or isinstance(value, int | float)
