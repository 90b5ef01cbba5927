"""Reading the runs of an MLflow server over its REST interface, without loading MLflow.

For servers that ask for nothing, for a name and a password, or for a token. Where more is needed, MLflow's own client
is used: it knows every way of logging in.
"""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from failguard.core.redaction import redact_text
from failguard.errors import FailGuardError
from failguard.runs.entry import RunEntry, entry_from_values
from failguard.runs.store import NEWEST_FIRST, PAGE, Experiment, RunReader
from failguard.sinks.mlflow_session import Unreachable, probe

__all__ = ["RestReader", "is_plain_server"]

ANSWER_S = 60.0  # a page of a thousand runs takes a busy server seconds
_NEEDS_MLFLOW = (
    "MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_WORKSPACE",
    "MLFLOW_ENABLE_WORKSPACES",
)  # fmt: skip


def is_plain_server(uri: str) -> bool:
    """Whether a store is a server that can be asked without MLflow, as far as the settings say.

    Args:
        uri: The store.
    """
    return urlsplit(uri).scheme in ("http", "https") and not any(os.environ.get(name) for name in _NEEDS_MLFLOW)


class RestReader:
    """Reads the runs of an MLflow server.

    Args:
        tracking_uri: Its address.
        otherwise: Makes the reader to use where the server refuses us.
    """

    def __init__(self, tracking_uri: str, otherwise: Callable[[], RunReader]) -> None:
        self._uri = tracking_uri
        self._otherwise = otherwise
        self._other: RunReader | None = None
        self._is_probed = False

    def experiments(self) -> dict[str, Experiment]:
        """The experiments that are not deleted, by id."""
        if self._other is None:
            try:
                return {e.id: e for e in self._experiments()}
            except _Refused:
                self._other = self._otherwise()
        return self._other.experiments()

    def pages(
        self, experiments: Sequence[Experiment], condition: str = "", page: int = PAGE
    ) -> Iterator[list[RunEntry]]:
        """Their runs, newest first."""
        if self._other is not None:
            yield from self._other.pages(experiments, condition, page)
            return
        names = {e.id: e.name for e in experiments}
        token = ""
        while names:
            question = {"experiment_ids": list(names), "filter": condition, "max_results": page,
                        "order_by": [NEWEST_FIRST], "run_view_type": "ACTIVE_ONLY"}  # fmt: skip
            answer = self._ask("runs/search", {**question, **({"page_token": token} if token else {})})
            yield [_entry(run, names.get(str(run["info"].get("experiment_id")), "")) for run in answer.get("runs", ())]
            token = answer.get("next_page_token") or ""
            if not token:
                return

    def run(self, run_id: str) -> RunEntry | None:
        """One run."""
        if self._other is not None:
            return self._other.run(run_id)
        for page in self.pages(list(self.experiments().values()), f"attributes.run_id = '{run_id}'"):
            for entry in page:
                return entry
        return None

    def _experiments(self) -> Iterator[Experiment]:
        token = ""
        while True:
            question = {"max_results": PAGE, "view_type": "ACTIVE_ONLY", **({"page_token": token} if token else {})}
            answer = self._ask("experiments/search", question)
            for e in answer.get("experiments", ()):
                yield Experiment(str(e["experiment_id"]), str(e.get("name", "")), int(e.get("creation_time") or 0))
            token = answer.get("next_page_token") or ""
            if not token:
                return

    def _ask(self, path: str, question: Mapping[str, Any]) -> dict[str, Any]:
        if not self._is_probed:
            probe(self._uri)  # a second at most, where a question may wait for long
            self._is_probed = True
        parts, shown = urlsplit(self._uri), redact_text(self._uri)
        host = parts.netloc.rpartition("@")[2]
        address = urlunsplit((parts.scheme, host, f"{parts.path.rstrip('/')}/api/2.0/mlflow/{path}", "", ""))
        headers = {"Content-Type": "application/json", "User-Agent": "failguard", **_authorization(self._uri)}
        request = urllib.request.Request(address, json.dumps(question).encode(), headers)
        try:
            with urllib.request.build_opener(_StayHere).open(request, timeout=ANSWER_S) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            if error.code in (401, 403, 404, 405, 407) or 300 <= error.code < 400:
                raise _Refused(f"The MLflow server {shown} refuses to answer: {error}.") from error
            if error.code in (502, 503, 504):
                raise Unreachable(f"The MLflow server {shown} does not answer ({error}).") from error
            raise FailGuardError(f"The MLflow server {shown} cannot be read: {_reason(error)}.") from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(error, ValueError) or type(reason).__name__.startswith("SSL"):
                raise _Refused(f"What the MLflow server {shown} answers cannot be read: {reason}.") from error
            raise Unreachable(
                f"The MLflow server {shown} does not answer ({reason}). Start it, or set MLFLOW_TRACKING_URI."
            ) from error


class _StayHere(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: it would hand the password to whoever is named there."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """None: the redirection is an answer of its own."""


class _Refused(FailGuardError):
    """The server wants something that only MLflow's client knows about."""


def _authorization(uri: str) -> dict[str, str]:
    """As MLflow does: name and password before a token, the address before the environment."""
    parts = urlsplit(uri)
    name = unquote(parts.username or "") or os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    password = unquote(parts.password or "") or os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    if name and password:
        return {"Authorization": f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        return redact_text(str(json.load(error).get("message", ""))).splitlines()[0].rstrip(". ") or str(error)
    except (OSError, ValueError, AttributeError, IndexError):
        return str(error)


def _entry(run: Mapping[str, Any], experiment: str) -> RunEntry:
    """A run of the REST interface as an entry."""
    info, data = run["info"], run.get("data", {})
    metrics = data.get("metrics", ())
    tags = {str(t["key"]): str(t.get("value", "")) for t in data.get("tags", ())}
    return entry_from_values(
        run_id=str(info.get("run_id") or info.get("run_uuid")),
        experiment_id=str(info.get("experiment_id")),
        experiment=experiment,
        name=str(info.get("run_name") or tags.get("mlflow.runName", "")),
        mlflow_status=str(info.get("status", "RUNNING")),
        started_ms=_ms(info.get("start_time")),
        ended_ms=_ms(info.get("end_time")),
        tags=tags,
        params={str(p["key"]): str(p.get("value", "")) for p in data.get("params", ())},
        metrics={str(m["key"]): float(m.get("value", 0.0)) for m in metrics},
        heard_ms=max((_ms(m.get("timestamp")) or 0 for m in metrics), default=0) or None,
    )


def _ms(value: Any) -> int | None:
    return int(value) if value else None
