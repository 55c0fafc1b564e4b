"""`bedplate import mlflow`: a store's runs are runs of this project."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused
from models.foreign.stores import mlflow_store


def test_a_store_is_brought_in_once(hello: Path, tmp_path: Path) -> None:
    file = mlflow_store(tmp_path / "mlflow")
    first = as_json(hello, "import", "mlflow", f"sqlite:///{file}")
    assert (first["runs"], first["points"], first["versions"], first["left"]) == (4, 11, 2, [])
    again = bedplate(hello, "import", "mlflow", f"sqlite:///{file}").stdout
    assert again == f"sqlite:///{file}: 0 runs with 0 points and 0 files, 0 versions of models; 6 were here already\n"
    assert [row["version"] for row in as_json(hello, "models", "list")] == ["cru@1", "cru@2"]
    assert as_json(hello, "models", "show", "cru@champion")["signature"]["inputs"][0]["name"] == "alcohol"
    assert bedplate(hello, "audit", "verify").returncode == 0


def test_what_is_no_store(hello: Path) -> None:
    assert "the store cannot be read" in refused(hello, "import", "mlflow", "sqlite:///nothing.db")
    assert "no address of an MLflow store" in refused(hello, "import", "mlflow", "nothing")
