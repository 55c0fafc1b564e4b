"""`bedplate export mlflow`: what was imported goes to a server and comes back equal."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from bedplate.flow.hosting import Place, tracking_served
from bedplate.flow.workspace import open_workspace
from bedplate.models.foreign.mlflow_rest import RestStore
from bedplate.models.foreign.mlflow_sqlite import SqliteStore
from cli.kit import as_json, refused
from models.foreign.stores import everything, mlflow_store


def test_out_and_back_nothing_is_lost(hello: Path, tmp_path: Path) -> None:
    file = mlflow_store(tmp_path / "mlflow")
    as_json(hello, "import", "mlflow", f"sqlite:///{file}")
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "bedplate.yaml").write_text("project: target\n")
    with open_workspace(tmp_path / "target") as workspace, tracking_served(workspace, Place()) as address:
        written = as_json(hello, "export", "mlflow", address)
        assert (written["runs"], written["points"], written["versions"]) == (4, 11, 2)
        assert as_json(hello, "export", "mlflow", address)["known"] == 6
        with closing(RestStore(address)) as there, closing(SqliteStore(file)) as before:
            assert everything(there, tmp_path / "there") == everything(before, tmp_path / "before")


def test_a_place_that_cannot_be_written(hello: Path) -> None:
    assert "no place that can be written" in refused(hello, "export", "mlflow", "postgres://host/x")
    assert "does not answer" in refused(hello, "export", "mlflow", "http://127.0.0.1:9")
