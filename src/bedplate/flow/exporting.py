"""Exporting weights: of a committed checkpoint of a run, or of a model version.

Does not know: how files are written (`train.checkpoints.export`), or how progress is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.core.errors import CheckpointError, NotFound
from bedplate.core.loading import load
from bedplate.core.record import RunRecord
from bedplate.flow.tables import EXPORTS
from bedplate.flow.workspace import Workspace

COMMITTED = "checkpoint.committed"


@dataclass(frozen=True)
class Exported:
    """What was written: of `source` (`RUN@STEP` or `NAME@N`), with the digest by which the ledger knows it; sizes in bytes."""

    source: str
    digest: str
    folder: str
    files: Mapping[str, int]


def export(
    workspace: Workspace, name: str, folder: Path, config: Mapping[str, Any] | None, shard_bytes: int, told: Callable[[int, int], None]
) -> Exported:
    """Write the weights of `name` to `folder`, which is there whole or not at all.

    `name` is a model version (`NAME@N`), a run or step for its newest checkpoint, or `RUN@STEP`. `told(done, all)` counts bytes.
    Raises NotFound, and CheckpointError when something lies at `folder` or bytes are damaged.
    """
    if folder.exists():
        raise CheckpointError("something lies there already", value=str(folder), fix="choose a new folder")
    records = workspace.records
    head, _, tail = name.partition("@")
    if head in records.versions:
        version = records.version(name)
        if version.kind != "model":
            raise NotFound("this version is no model", value=version.ref, fix=f"it is a {version.kind}; name a model or a run")
        source, digest = version.ref, version.digest
        files = load(EXPORTS, "version", "export")(folder, workspace.state / version.location, digest, config, shard_bytes, told)
    else:
        run = records.run(head)
        known = _checkpoint(workspace, run, tail)
        source, digest = f"{run.id}@{known['step']}", str(known["digest"])
        tiers = (run.made.get("spec", {}).get("checkpoint") or {}).get("tiers")
        files = load(EXPORTS, "checkpoint", "export")(folder, known, workspace.state, tiers, config, shard_bytes, told)
    return Exported(source, digest, str(folder), {path.name: path.stat().st_size for path in files})


def _checkpoint(workspace: Workspace, run: RunRecord, step: str) -> Mapping[str, Any]:
    """The newest checkpoint of a run, or that of a step. Raises NotFound, naming the steps that there are."""
    known = [event.payload for event in workspace.ledger.read() if event.kind == COMMITTED and event.subject == run.id]
    found = [each for each in known if not step or str(each["step"]) == step]
    if not found:
        steps = ", ".join(str(each["step"]) for each in known)
        fix = f"its checkpoints are of the steps {steps}" if known else "a run writes them with `state=` in run.batches"
        raise NotFound("no such checkpoint", value=f"{run.id}@{step}" if step else run.id, fix=fix)
    return found[-1]
