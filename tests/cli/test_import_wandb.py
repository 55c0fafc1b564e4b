"""`bedplate import wandb`."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, refused
from models.foreign.stores import wandb_folder


def test_offline_runs_are_brought_in_once(hello: Path, tmp_path: Path) -> None:
    folder = wandb_folder(tmp_path / "old")
    first = as_json(hello, "import", "wandb", str(folder), "--prefix", "wb-")
    assert (first["runs"], first["points"], first["files"], first["left"]) == (1, 23, 2, [])
    assert as_json(hello, "import", "wandb", str(folder), "--prefix", "wb-")["known"] == 1
    files = [path.name for path in (hello / ".bedplate" / "artifacts").rglob("*") if path.is_file()]
    assert sorted(files) == ["notes.txt", "offline-run-20261123_050000-abc123.wandb"]


def test_a_folder_without_runs(hello: Path) -> None:
    assert "there is no offline run of W&B" in refused(hello, "import", "wandb", ".")
