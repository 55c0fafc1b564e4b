"""An address decides which reader is taken."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bedplate.core.errors import DataError
from bedplate.models.foreign.mlflow_rest import RestStore
from bedplate.models.foreign.mlflow_sqlite import SqliteStore
from bedplate.models.foreign.open import open_store
from models.foreign.stores import mlflow_store


def test_a_file_below_the_root_or_by_its_whole_path_and_a_server(tmp_path: Path) -> None:
    file = mlflow_store(tmp_path / "old")
    for address in ("sqlite:///old/store.db", f"sqlite:///{file}"):
        with closing(open_store(address, tmp_path)) as store:
            assert isinstance(store, SqliteStore)
            assert store.identity == f"sqlite:///{file}"
    with closing(open_store("http://127.0.0.1:9", tmp_path)) as store:
        assert isinstance(store, RestStore)


def test_another_kind_of_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no address of an MLflow store.*'postgres://host'"):
        open_store("postgres://host", tmp_path)
