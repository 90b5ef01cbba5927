"""Reading the runs of a tracking store, in pages. Which reader a store gets, and what MLflow's own search gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol
from urllib.parse import urlsplit

from failguard.core.redaction import cut, redact_text
from failguard.errors import FailGuardError
from failguard.runs.entry import RunEntry, entry_from_values
from failguard.sinks.store_uri import database_path

__all__ = ["Experiment", "MlflowReader", "RunReader", "reader_for"]

PAGE = 1_000
NEWEST_FIRST = "attributes.start_time DESC"
IDS_IN_ONE_FILTER = 50


@dataclass(frozen=True, slots=True)
class Experiment:
    """An experiment that is not deleted.

    Attributes:
        id, name: As MLflow knows it.
        created_ms: Milliseconds since 1970. Tells an experiment from another with its id, in a store that was made
            anew.
    """

    id: str
    name: str
    created_ms: int


class RunReader(Protocol):
    """The part of a tracking store that the registry reads."""

    def experiments(self) -> dict[str, Experiment]:
        """The experiments that are not deleted, by id."""

    def pages(
        self, experiments: Sequence[Experiment], condition: str = "", page: int = PAGE
    ) -> Iterator[list[RunEntry]]:
        """Their runs that are not deleted, newest first.

        Args:
            experiments: The experiments.
            condition: A filter in MLflow's language.
            page: Runs in one page, at most.
        """

    def run(self, run_id: str) -> RunEntry | None:
        """One run; ``None`` where there is none, or it is deleted."""


def reader_for(tracking_uri: str) -> RunReader:
    """The quickest reader that a store can be read with.

    A server that needs no more than a name and a password or a token is asked directly: MLflow takes a second to load.

    Args:
        tracking_uri: The store.

    Raises:
        FailGuardError: MLflow is needed and cannot be imported.
    """
    from failguard.runs.store_rest import RestReader, is_plain_server

    if is_plain_server(tracking_uri):
        return RestReader(tracking_uri, otherwise=lambda: MlflowReader(tracking_uri))
    return MlflowReader(tracking_uri)


class MlflowReader:
    """Reads through MLflow's own client: any store, any way of logging in.

    Args:
        tracking_uri: The store.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._uri = tracking_uri
        self._opened: Any = None

    def experiments(self) -> dict[str, Experiment]:
        """The experiments that are not deleted, by id."""
        found: dict[str, Experiment] = {}
        with _trouble_named(self._uri):
            token = None
            while True:
                page = self._client.search_experiments(max_results=PAGE, page_token=token)
                for e in page:
                    found[str(e.experiment_id)] = Experiment(str(e.experiment_id), e.name, int(e.creation_time or 0))
                token = page.token
                if not token:
                    return found

    def pages(
        self, experiments: Sequence[Experiment], condition: str = "", page: int = PAGE
    ) -> Iterator[list[RunEntry]]:
        """Their runs, newest first."""
        names = {e.id: e.name for e in experiments}
        token = None
        while names:
            with _trouble_named(self._uri):
                runs = self._client.search_runs(
                    list(names), filter_string=condition, max_results=page, order_by=[NEWEST_FIRST], page_token=token
                )
            yield [_entry(run, names.get(str(run.info.experiment_id), "")) for run in runs]
            token = runs.token
            if not token:
                return

    def run(self, run_id: str) -> RunEntry | None:
        """One run."""
        with _trouble_named(self._uri):
            try:
                run = self._client.get_run(run_id)
            except Exception as error:
                if getattr(error, "error_code", "") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise
            experiment = self._client.get_experiment(run.info.experiment_id)
        if run.info.lifecycle_stage != "active" or experiment.lifecycle_stage != "active":
            return None
        return _entry(run, experiment.name)

    @property
    def _client(self) -> Any:
        if self._opened is None:
            from failguard.sinks.mlflow_read import open_store

            if urlsplit(self._uri).scheme in ("file", "") or database_path(self._uri):
                self._opened, _ = open_store("", self._uri)  # says what is wrong with a folder or a file
            else:
                from failguard.sinks.mlflow_session import probe

                probe(self._uri)  # MLflow's own calls wait for minutes
                try:
                    from mlflow.tracking import MlflowClient
                except ImportError as error:
                    raise FailGuardError(f"MLflow cannot be imported ({error}): pip install failguard-ml") from error
                self._opened = MlflowClient(tracking_uri=self._uri)
        return self._opened


def by_ids(run_ids: Sequence[str], read: Callable[[str], Iterator[list[RunEntry]]]) -> Iterator[list[RunEntry]]:
    """Pages of runs by their ids, few enough in one question.

    Args:
        run_ids: The ids.
        read: Pages of a condition.
    """
    for i in range(0, len(run_ids), IDS_IN_ONE_FILTER):
        chosen = ", ".join(f"'{run_id}'" for run_id in run_ids[i : i + IDS_IN_ONE_FILTER])
        yield from read(f"attributes.run_id IN ({chosen})")


@contextmanager
def _trouble_named(uri: str) -> Iterator[None]:
    try:
        yield
    except FailGuardError:
        raise
    except Exception as error:
        reason = cut(redact_text(next(iter(str(error).splitlines()), "") or type(error).__name__), 300).rstrip(". ")
        raise FailGuardError(f"The MLflow store {redact_text(uri)} cannot be read: {reason}.") from error


def _entry(run: Any, experiment: str) -> RunEntry:
    """An MLflow run as an entry."""
    info, data = run.info, run.data
    # The dict of a run's metrics has no times; the list it was made from has, in every version so far.
    times = (getattr(m, "timestamp", 0) or 0 for m in getattr(data, "_metric_objs", None) or ())
    return entry_from_values(
        run_id=str(info.run_id),
        experiment_id=str(info.experiment_id),
        experiment=experiment,
        name=info.run_name or data.tags.get("mlflow.runName", ""),
        mlflow_status=str(info.status),
        started_ms=info.start_time,
        ended_ms=info.end_time,
        tags=data.tags,
        params=data.params,
        metrics=data.metrics,
        heard_ms=max(chain(times, (0,))) or None,
    )
