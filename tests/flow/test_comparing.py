"""Comparing runs of any origin."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.errors import NotFound
from bedplate.core.event import Draft
from bedplate.flow.comparing import MOST_POINTS, compare
from bedplate.flow.workspace import open_workspace
from bedplate.models.series import SeriesStore
from bedplate.models.tracking import drafts


def test_runs_of_bedplate_and_of_clients_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "bedplate.yaml").write_text("project: hello\njobs:\n  train: {command: 'true'}\n")
    with open_workspace(tmp_path) as workspace:
        logged = "a" * 32
        workspace.ledger.append(
            [
                Draft("run.created", "train-1", {"step": "train", "kind": "job", "launch": "l", "fingerprint": "f", "made": {}}),
                Draft("run.finished", "train-1", {"status": "succeeded", "metrics": {"loss": 0.5}, "params": {"lr": "0.1", "seed": 1}}),
                drafts.experiment_created("5", "five", at_ms=1),
                drafts.run_logged(logged, "5", "five", name="theirs", user="u", start_ms=1),
                drafts.run_changed(logged, params={"lr": "0.1"}, metrics=drafts.latest({"loss": (0.25, 9, 9)})),
            ]
        )
        workspace.refresh()
        store = SeriesStore(workspace.state / "series")
        store.append("train-1", 1, "rank-0", [(n, float(n), n, {"loss": 1 / n}) for n in range(1, 4)])
        store.append_columns(logged, 1, "import", 1, "loss", range(1000), range(1000), [0.25] * 1000)
        found = compare(workspace, ["train", logged[:8]])
        assert [run.id for run in found.runs] == ["train-1", logged]
        told = {line.name: (line.values, line.differs) for line in found.lines}
        assert told == {"lr": (("0.1", "0.1"), False), "seed": (("1", None), True), "loss": ((0.5, 0.25), True)}
        own, theirs = found.curves["loss"]
        assert own == ((1, 1.0), (2, 0.5), (3, 1 / 3))
        assert (theirs[0], theirs[-1], len(theirs) <= MOST_POINTS + 1) == ((0, 0.25), (999, 0.25), True)
        with pytest.raises(NotFound, match="no such run"):
            compare(workspace, ["train", "nobody"])
