"""A server read by MLflow's REST API: the project's own, which holds what was imported from a database; and what it says when it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bedplate.core.errors import DataError
from bedplate.flow.hosting import Place, tracking_served
from bedplate.flow.importing import bring
from bedplate.flow.workspace import open_workspace
from bedplate.models.foreign.mlflow_rest import RestStore
from bedplate.models.foreign.mlflow_sqlite import SqliteStore
from models.foreign.stores import everything, mlflow_store


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, SqliteStore]]:
    """The address of a server, and the database whose content it has."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "bedplate.yaml").write_text("project: cellar\n")
    with closing(SqliteStore(mlflow_store(tmp_path / "mlflow"))) as source, open_workspace(tmp_path / "project") as workspace:
        bring(workspace, source)
        with tracking_served(workspace, Place()) as address:
            yield address, source


def test_a_server_gives_what_the_database_gives(served: tuple[str, SqliteStore], tmp_path: Path) -> None:
    address, source = served
    with closing(RestStore(address)) as store:
        assert store.identity == address
        assert everything(store, tmp_path / "rest") == everything(source, tmp_path / "sqlite")


def test_what_cannot_be_asked_is_named(served: tuple[str, SqliteStore]) -> None:
    address, _ = served
    with closing(RestStore(address)) as store, pytest.raises(DataError, match=r"refused: 404.*Run"):
        store.points("nothing")
    with closing(RestStore("http://127.0.0.1:9")) as store, pytest.raises(DataError, match="does not answer"):
        store.experiments()
    with pytest.raises(DataError, match="no URL of a server"):
        RestStore("http://")


def test_credentials_are_sent_and_never_recorded() -> None:
    with closing(RestStore("https://ann:p%40ss@host:5000/base/")) as store:
        assert store.identity == "https://host:5000/base"
        request = next(store.client.auth.auth_flow(store.client.build_request("GET", "/x")))
        assert request.headers["Authorization"].startswith("Basic ")
        assert "p%40ss" not in str(request.url)
