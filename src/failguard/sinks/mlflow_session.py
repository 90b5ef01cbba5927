"""One run in an MLflow store, and the calls that write to it. Used on the delivery thread and by ``failguard sync``."""

from __future__ import annotations

import os
import shlex
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from failguard.core.log import logger
from failguard.core.redaction import cut, redact_text
from failguard.errors import FailGuardError
from failguard.report.run_report import RunReport
from failguard.sinks import mlflow_values as values
from failguard.sinks.files import ARTIFACTS, artifact_texts
from failguard.sinks.mlflow_experiment import early_params, experiment_rows, result_params

__all__ = ["Session", "Target", "Unreachable", "connect", "probe", "trouble_named"]

PROBE_S = 1.0
BATCH = 1_000  # entities in one call
PARAM_BATCH = 100  # params or tags in one call

# Two runs can be delivered at once, and the migrations that MLflow runs on opening a database cannot.
_opening = threading.Lock()


class Unreachable(FailGuardError):
    """The tracking server does not answer. It may later."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a run is to be recorded, as far as the user and the frameworks have said.

    Attributes:
        tracking_uri: The store; ``None``: the one MLflow itself would use.
        run_id: A run that exists; ``None``: one of our own is made.
        experiment: Name of the experiment for a run of our own; ``None``: MLflow's default.
        run_name: Its name; ``None``: the record's id.
        owned: failguard made the run ``run_id``.
    """

    tracking_uri: str | None = None
    run_id: str | None = None
    experiment: str | None = None
    run_name: str | None = None
    owned: bool = False


def connect(target: Target) -> Session:
    """Open the store of a target.

    Raises:
        Unreachable: It is a server that does not answer.
        FailGuardError: It cannot be used; the message names it and the remedy.
    """
    try:
        if target.tracking_uri is not None:
            probe(target.tracking_uri)  # before MLflow is loaded, which takes seconds
        import mlflow
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise FailGuardError(f"MLflow cannot be imported ({error}): pip install failguard-ml") from error
    uri = target.tracking_uri or str(mlflow.get_tracking_uri())
    if target.tracking_uri is None:
        probe(uri)
    with trouble_named(uri):
        if not uri.startswith("sqlite:"):
            return Session(client=MlflowClient(tracking_uri=uri), uri=uri, target=target)
        # MLflow brings an older database up to date when it opens it. The thread is none that dies with the process
        # half-way: the database would be lost to the user.
        with _opening, ThreadPoolExecutor(1, thread_name_prefix="failguard store") as pool:
            pool.submit(_create_database, uri).result()
            client = pool.submit(MlflowClient, tracking_uri=uri).result()
        return Session(client=client, uri=uri, target=target)


def _create_database(uri: str) -> None:
    """Make the database of a store that has none, under another name, and put it in place whole.

    A process that is killed while MLflow makes it in place leaves a database that MLflow never opens again.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy.engine import make_url

    url = make_url(uri)
    path = Path(url.database or ":memory:").absolute()
    if url.database in (None, "", ":memory:") or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)  # as MLflow does
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
    unfinished.unlink(missing_ok=True)  # of a killed process with this number, as containers give it again
    try:
        at = url.set(database=str(unfinished)).render_as_string(hide_password=False)
        SqlAlchemyStore(at, "./mlruns").engine.dispose()
        try:
            os.link(unfinished, path)
        except FileExistsError:
            pass  # another process was faster
        except OSError:  # a file system without links
            if not path.exists():
                os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def probe(uri: str) -> None:
    """Ask a tracking server whether it is up: MLflow's own calls block for minutes when it is not.

    Raises:
        Unreachable: It does not answer within a second.
    """
    if not uri.lower().startswith(("http:", "https:")):
        return
    try:
        parts = urlsplit(uri)
        host = parts.netloc.rpartition("@")[2]
        address = urlunsplit((parts.scheme, host, parts.path.rstrip("/") + "/health", "", ""))
        with urllib.request.urlopen(address, timeout=PROBE_S):
            return
    except urllib.error.HTTPError as error:
        # Behind a proxy /health may be forbidden or absent: that is an answer. A gateway without a server is not.
        trouble: object = error if error.code in (502, 503, 504) else None
    except (OSError, ValueError, HTTPException) as error:  # the last: it speaks, but not HTTP
        # A certificate that Python does not know is an answer too: MLflow has its own settings for those.
        cause = getattr(error, "reason", error)
        trouble = None if type(cause).__name__.startswith("SSL") else cause
    if trouble is not None:
        reason = " ".join(str(trouble).split())
        raise Unreachable(
            f"The MLflow server {redact_text(uri)} does not answer ({reason}). Start it, or set MLFLOW_TRACKING_URI; "
            "`failguard sync` sends the records it missed."
        )


@contextmanager
def trouble_named(uri: str) -> Iterator[None]:
    """Errors of MLflow as one sentence that names the store and the remedy."""
    try:
        yield
    except FailGuardError:
        raise
    except Exception as error:
        first_line = (next(iter(str(error).splitlines()), "") or type(error).__name__).strip(". ")
        reason = cut(redact_text(first_line), 200)
        raise FailGuardError(
            f"The MLflow store {redact_text(uri)} cannot be used: {reason}. Set MLFLOW_TRACKING_URI or "
            "MlflowSink(tracking_uri=...) to a store that can be written, such as sqlite:///mlflow.db; then "
            "`failguard sync` sends the record."
        ) from error


@dataclass(slots=True)
class Session:
    """One run in an open store.

    Attributes:
        client: An ``mlflow.tracking.MlflowClient``.
        uri: The store.
        target: What was asked for.
        run_id: The run, once :meth:`begin` found or made it.
        owned: failguard made it.
        sent: Metric name to the newest step or epoch that the store has.
        sent_points: Name, step and text of each value of an experiment's metrics that the store has.
    """

    client: Any
    uri: str
    target: Target
    run_id: str | None = None
    owned: bool = False
    experiment_id: str = ""
    sent: dict[str, int] = field(default_factory=dict)
    sent_points: set[tuple[str, int, str]] = field(default_factory=set)
    is_announced: bool = False

    @property
    def location(self) -> str | None:
        """Address of the run, or its id and the command that shows it."""
        if self.run_id is None:
            return None
        uri = redact_text(self.uri)
        if urlsplit(self.uri).scheme in ("http", "https"):
            page = f"#/experiments/{self.experiment_id}/runs/{self.run_id}?workflowType=machine_learning"
            return f"{uri.rstrip('/')}/{page}"
        return f"run {self.run_id} (mlflow ui --backend-store-uri {shlex.quote(uri)})"

    def begin(self, report: RunReport) -> None:
        """Find or make the run, and say that it is watched. Does nothing the second time."""
        if self.is_announced:
            return
        if self.run_id is None:
            self._find_or_make(report)
        tags = values.tags(report)
        tags.setdefault("failguard.line", self.client.get_experiment(self.experiment_id).name)
        if self.owned:
            self._log_params(early_params(report) if report.run.is_experiment else values.params(report))
            tags = {**{k: str(v) for k, v in report.run.tags.items()}, **tags}
        else:
            tags.update({f"failguard.tag.{k}": str(v) for k, v in report.run.tags.items()})
        self._log(tags=tags)
        self.is_announced = True

    def send_metrics(self, report: RunReport, *, final: bool) -> None:
        """Send the blocks and the experiment's values that the store has not got."""
        points = experiment_rows(report, self.sent_points)
        for i in range(0, len(points), BATCH):
            batch = points[i : i + BATCH]
            self._log(metrics=batch)
            self.sent_points.update((name, step, str(value)) for name, value, step in batch)
        rows = values.metric_rows(report.history, self.sent, final=final)
        for i in range(0, len(rows), BATCH):
            batch = rows[i : i + BATCH]
            self._log(metrics=batch)
            for name, _, start in batch:
                self.sent[name] = max(start, self.sent.get(name, -1))
        course = values.course_rows(report, self.sent)
        for i in range(0, len(course), BATCH):
            timed = course[i : i + BATCH]
            self._log_course(timed)
            for name, _, step, _ in timed:
                self.sent[name] = max(step, self.sent.get(name, -1))

    def end(self, report: RunReport) -> None:
        """Send what is left. What matters most goes first: time may run out."""
        resources = [row for row in values.resource_rows(report) if row[2] > self.sent.get(row[0], -1)]
        summary = values.summary_rows(report)
        self._log(tags=values.tags(report), metrics=[*summary, *resources][:BATCH])
        if self.owned and report.run.is_experiment:
            self._log(tags=report.run.tags)  # those of a guard inside it came later
            self._log_params({**result_params(report), **values.params(report)})
        if self.owned:
            end_ms = values.start_ms(report) + int(report.progress.duration_s * 1000)
            self.client.set_terminated(self.run_id, values.run_status(report), end_time=end_ms)
        if self.owned or not self.client.get_run(self.run_id).data.tags.get("mlflow.note.content"):
            self.client.set_tag(self.run_id, "mlflow.note.content", values.note(report))
        self.send_metrics(report, final=True)
        self._send_artifacts(report)

    def publish(self, report: RunReport) -> None:
        """Send a whole finished run, or what the store lacks of it."""
        with trouble_named(self.uri):
            if self.run_id is None:
                self._find_or_make(report)
            measured = {values.valid_name(name) for name in report.metrics}
            for name in self.client.get_run(self.run_id).data.metrics:
                if name.startswith(("failguard/", "system/")):
                    points = self.client.get_metric_history(self.run_id, name)
                    self.sent[name] = max((p.step for p in points), default=-1)
                elif name in measured:
                    points = self.client.get_metric_history(self.run_id, name)
                    self.sent_points.update((name, p.step, str(p.value)) for p in points)
            self.begin(report)
            self.end(report)

    def _find_or_make(self, report: RunReport) -> None:
        target = self.target
        if target.run_id is not None:
            info = self.client.get_run(target.run_id).info
            self.run_id, self.experiment_id, self.owned = target.run_id, info.experiment_id, target.owned
            return
        self.experiment_id = self._experiment_id()
        made = self.client.search_runs(
            [self.experiment_id], filter_string=f"tags.`failguard.record` = '{report.run.record_id}'", max_results=1
        )
        run = (
            made[0]
            if made
            else self.client.create_run(
                self.experiment_id,
                start_time=values.start_ms(report),
                run_name=target.run_name or report.run.record_id,
                tags={**_context_tags(), "failguard.record": report.run.record_id},
            )
        )
        self.run_id, self.owned = run.info.run_id, True
        logger.info("failguard: this run is recorded in the MLflow store %s", redact_text(self.uri))

    def _experiment_id(self) -> str:
        name = self.target.experiment
        if name is None:
            return os.environ.get("MLFLOW_EXPERIMENT_ID") or "0"
        experiment = self.client.get_experiment_by_name(name)
        if experiment is not None and experiment.lifecycle_stage == "deleted":
            raise FailGuardError(
                f"The MLflow experiment {name!r} was deleted. Restore it with `mlflow experiments restore "
                f"--experiment-id {experiment.experiment_id}`, or choose another name."
            )
        if experiment is None:
            try:
                return str(self.client.create_experiment(name))
            except Exception:
                experiment = self.client.get_experiment_by_name(name)  # another process was faster
                if experiment is None:
                    raise
        return str(experiment.experiment_id)

    def _log_params(self, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        known = self.client.get_run(self.run_id).data.params  # overwriting one raises
        entities = [Param(k, v) for k, v in params.items() if k not in known]
        for i in range(0, len(entities), PARAM_BATCH):
            self.client.log_batch(self.run_id, params=entities[i : i + PARAM_BATCH])

    def _log(self, tags: Mapping[str, str] | None = None, metrics: list[values.MetricRow] | None = None) -> None:
        from mlflow.entities import Metric, RunTag

        now_ms = int(time.time() * 1000)
        entities = [Metric(name, value, now_ms, step) for name, value, step in metrics or ()]
        # One call takes at most 1,000 entities in all and 100 tags.
        pairs = [RunTag(values.valid_name(k), v[: values.MAX_TAG]) for k, v in (tags or {}).items()][:PARAM_BATCH]
        if pairs and len(pairs) + len(entities) > BATCH:
            self.client.log_batch(self.run_id, tags=pairs)
            pairs = []
        if pairs or entities:
            self.client.log_batch(self.run_id, metrics=entities, tags=pairs)

    def _log_course(self, rows: list[values.TimedRow]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, time_ms, step) for name, value, step, time_ms in rows]
        self.client.log_batch(self.run_id, metrics=metrics)

    def _send_artifacts(self, report: RunReport) -> None:
        """Upload the files of the local record, or render them where there is none."""
        folder = Path(report.locations.get("local") or os.devnull)
        if all((folder / name).is_file() for name in ARTIFACTS if name != "error_trace.txt"):
            self._upload(folder)
            return
        with tempfile.TemporaryDirectory(prefix="failguard_") as temporary:
            for name, render in artifact_texts(report):
                path = Path(temporary, name)
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(render().encode("utf-8", "replace"))
            self._upload(Path(temporary))

    def _upload(self, folder: Path) -> None:
        for name in ARTIFACTS:
            path = folder / name
            if path.is_file():
                self.client.log_artifact(self.run_id, str(path), "failguard" if "/" in name else None)


def _context_tags() -> dict[str, str]:
    """Who started the run and from which source, as MLflow itself notes it for a run of its own."""
    from mlflow.tracking.context.registry import resolve_tags

    try:
        return {name: str(value) for name, value in resolve_tags().items()}
    except Exception:  # noqa: BLE001 - plugins of the user's are asked; a run without these tags is still a run
        return {}
