"""Which reader a store's address wants: `sqlite:///FILE` an MLflow database, `http(s)://` an MLflow server.

Does not know: what is read.
"""

from __future__ import annotations

from pathlib import Path

from bedplate.core.errors import DataError
from bedplate.models.foreign.mlflow_rest import RestStore
from bedplate.models.foreign.mlflow_sqlite import SqliteStore
from bedplate.models.foreign.records import Store


def open_store(address: str, root: Path) -> Store:
    """The MLflow store at an address; a relative file is below `root`. Raises DataError for one that cannot be read."""
    if address.startswith("sqlite:///"):
        return SqliteStore((root / address.removeprefix("sqlite:///")).resolve())
    if address.startswith(("http://", "https://")):
        return RestStore(address)
    raise DataError("this is no address of an MLflow store", value=address, fix="write sqlite:///FILE, or the http:// URL of a server")
