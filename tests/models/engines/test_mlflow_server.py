"""A server for a store that is a file: with a real MLflow in `make soak` (tests/models/foreign/peers.py); here what is said without."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bedplate.core.errors import DataError, Unavailable
from bedplate.models.engines.mlflow_server import served


def test_a_server_is_its_own_url() -> None:
    with served("http://host:5000") as url:
        assert url == "http://host:5000"


def test_an_interpreter_without_mlflows_server_is_told_what_it_lacks(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexec {sys.executable} -I -c \"import sys; sys.exit('No module named mlflow')\"\n")
    python.chmod(0o755)
    with pytest.raises(Unavailable, match=r"does not start \(got 'No module named mlflow'\).*--python"):
        with served("sqlite:///x.db", str(python)):
            pass


def test_another_kind_of_store_is_refused() -> None:
    with pytest.raises(DataError, match="no place that can be written"), served("postgres://host"):
        pass
