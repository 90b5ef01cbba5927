"""Which MLflow store is meant, without loading MLflow, which takes a second."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

__all__ = ["database_path", "normalized", "store_uri"]

LEGACY_FOLDER = "mlruns"
DEFAULT_DATABASE = "mlflow.db"


def store_uri() -> str:
    """The store that MLflow itself would use.

    What a loaded MLflow was told, else ``MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the working folder, or its
    ``mlruns`` where that holds experiments already: the rules of ``mlflow.get_tracking_uri()``.
    """
    mlflow = sys.modules.get("mlflow")
    if mlflow is not None and hasattr(mlflow, "get_tracking_uri"):
        return str(mlflow.get_tracking_uri())
    if os.environ.get("MLFLOW_TRACKING_URI"):
        return os.environ["MLFLOW_TRACKING_URI"]
    if any(Path(LEGACY_FOLDER).glob("[0-9]*/meta.yaml")):
        return Path(LEGACY_FOLDER).absolute().as_uri()
    return f"sqlite:///{Path(DEFAULT_DATABASE).absolute().as_posix()}"


def database_path(uri: str) -> Path | None:
    """The file of an sqlite store; ``None`` where it is kept in memory, or is no sqlite store."""
    scheme, _, rest = uri.partition("://")
    if scheme.partition("+")[0] != "sqlite":
        return None
    name = rest.partition("?")[0].removeprefix("/")
    return None if name in ("", ":memory:") or name.startswith("file:") else Path(name).absolute()


def normalized(uri: str) -> str:
    """The same text for the same store: absolute paths, no password, no slash at the end."""
    database = database_path(uri)
    if database is not None:
        return f"sqlite:///{database.resolve().as_posix()}"
    if "://" not in uri and not uri.startswith("file:"):
        # A bare word such as "databricks" is a service; anything else is a folder.
        return uri if uri.startswith("databricks") else Path(uri).resolve().as_uri()
    parts = urlsplit(uri)
    user, at, host = parts.netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}{at}{host.lower()}"
    return urlunsplit((parts.scheme.lower(), netloc, parts.path.rstrip("/"), parts.query, ""))
