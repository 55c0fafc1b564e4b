"""Plain records: equal when their values are, never changed."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from bedplate.models.foreign.records import Artifact, Experiment, Point, Run


def test_records_are_values() -> None:
    run = Run("id", "1", "first", params={"lr": "0.1"})
    assert replace(run) == run
    assert (run.status, run.lifecycle, run.end_ms) == ("FINISHED", "active", None)
    with pytest.raises(FrozenInstanceError):
        run.name = "second"  # type: ignore[misc] # that is the point
    assert Experiment("1", "wine").lifecycle == "active"


def test_points_and_files_have_an_order() -> None:
    assert sorted([Artifact("b", 1), Artifact("a", 2)]) == [Artifact("a", 2), Artifact("b", 1)]
    assert sorted([Point("loss", 1.0, 5.0, 2), Point("acc", 2.0, 9.0, 0)])[0].name == "acc"
