"""Exporting weights: what a name means, and that nothing lies there when it cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from bedplate.core.errors import BedplateError, CheckpointError, NotFound
from bedplate.flow.exporting import export
from bedplate.flow.workspace import Workspace, open_workspace


def out(folder: Path) -> dict[str, Any]:
    return {"folder": folder, "config": None, "shard_bytes": 1 << 30, "told": lambda done, total: None}


@pytest.fixture
def workspace(served: tuple[Path, Any]) -> Iterator[Workspace]:
    with open_workspace(served[0]) as opened:
        yield opened


def test_a_version_of_a_model_and_the_newest_checkpoint_of_its_run(workspace: Workspace, tmp_path: Path) -> None:
    version = export(workspace, "amount@production", **out(tmp_path / "a"))
    assert version.source == "amount@1"
    assert version.digest == workspace.records.version("amount@1").digest
    newest = workspace.records.run("fit").state.checkpoint
    if newest is None:  # it was faster than its first checkpoint
        with pytest.raises(NotFound, match="no such checkpoint"):
            export(workspace, "fit", **out(tmp_path / "b"))
        return
    run = export(workspace, "fit", **out(tmp_path / "b"))
    assert run.source == f"fit-1@{newest['step']}"
    assert load_file(tmp_path / "a" / "model.safetensors").keys() == load_file(tmp_path / "b" / "model.safetensors").keys()


@pytest.mark.parametrize(("name", "message"), [("visits@1", "no model"), ("fit-1@0", "no such checkpoint"), ("amonut@1", "no such")])
def test_what_has_no_weights_is_refused(workspace: Workspace, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(BedplateError, match=message):
        export(workspace, name, **out(tmp_path / "a"))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="lies there"):
        export(workspace, "amount@1", **out(tmp_path))
