"""Which check would have caught a failure earlier."""

from __future__ import annotations

from collections.abc import Iterator

from failguard.core.finding import Severity
from failguard.diagnosis.wording import count
from failguard.report.run_report import RunReport
from failguard.runs.entry import RunEntry

__all__ = ["preventions"]

_DATA = "Check the data before training: failguard data check FILE --label COLUMN, or validate_dataset(data, label)."
_SPLIT = (
    "Compare both halves before training: failguard data split TRAIN VALIDATION, or check_split(train, validation)."
)
_ONE_BATCH = "Run one batch through training and validation before the long run (fast_dev_run=True in Lightning)."
_CLIP = (
    "Clip gradients: gradient_clip_val=1.0 in Lightning, clipnorm=1.0 in a Keras optimizer, "
    "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) in a loop."
)
_SHORT = "Try a new rate for a few hundred steps before the long run: a rate that is far off shows there."
_MEMORY = "Bound memory with resources=ResourceLimits(...), and run the largest batch once before the long run."
_PATIENCE = "Set patience: the run ends when validation no longer improves, and the best weights are put back."

_BY_CAUSE = {
    "bad_labels": _DATA,
    "class_imbalance": _DATA,
    "corrupted_batch": _DATA,
    "no_signal": _DATA,
    "unscaled_inputs": _DATA,
    "unscaled_targets": _DATA,
    "data_leakage": _SPLIT,
    "train_validation_mismatch": _SPLIT,
    "unshuffled_data": "Keep check_data=True: sorted batches are seen before training.",
    "missing_gradient_clipping": _CLIP,
    "learning_rate_too_high": _SHORT,
    "learning_rate_too_low": _SHORT,
    "batch_size_too_large": _MEMORY,
    "host_memory_leak": _MEMORY,
    "retained_graph": _MEMORY,
    "too_little_data_for_capacity": _PATIENCE,
    "too_little_regularization": _PATIENCE,
    "disk_full": "Look at the disk before the run; resources=ResourceLimits(...) warns while it fills.",
    "device_mismatch": _ONE_BATCH,
    "dtype_mismatch": _ONE_BATCH,
    "missing_file_or_column": _ONE_BATCH,
    "serialization_failure": _ONE_BATCH,
    "shape_mismatch": _ONE_BATCH,
    "user_code_error": _ONE_BATCH,
    "network_or_collective_failure": "Run two steps on all ranks first, and keep checkpoints to go on from.",
    "interrupted": "Keep checkpoints, so that an interrupted run goes on where it was.",
}
_BY_FINDING = {
    "metric.overfitting": _PATIENCE,
    "resource.oom": _MEMORY,
    "data.non_finite": _DATA,
    "run.exception": _ONE_BATCH,
}


def preventions(entry: RunEntry, report: RunReport | None) -> Iterator[str]:
    """What would have shown the failure sooner, one sentence each, surest first.

    Args:
        entry: The failed run.
        report: Its report, where there is one.
    """
    if not entry.watched:
        yield "Watch runs like this one with FailGuard: it names what went wrong, and when."
    yield from _strict(report)
    known = _BY_CAUSE.get(entry.cause or "") or _BY_FINDING.get(entry.finding or "")
    if known:
        yield known


def _strict(report: RunReport | None) -> Iterator[str]:
    """Steps that were run after the first error, which a stricter policy spares."""
    if report is None:
        return
    errors = [f for f in report.findings if f.severity.rank >= Severity.ERROR.rank and f.step >= 0]
    if not errors or not report.progress.steps:
        return
    first = min(errors, key=lambda f: f.step)
    after = report.progress.steps - 1 - first.step
    if after >= max(10, 0.05 * report.progress.steps):
        yield (
            f'Use policy="strict": it stops on the first error, here {first.code} at step {count(first.step)}, '
            f"{count(after)} steps before the run ended."
        )
