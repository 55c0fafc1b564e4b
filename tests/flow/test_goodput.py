"""Where the time of a run went, from a ledger and journals on disk."""

from __future__ import annotations

import pytest

from bedplate.core.errors import NotFound
from bedplate.flow.explaining import explain
from bedplate.flow.goodput import entries_of, goodput, timings_of
from flow.opened_rows import write_timings
from flow.world import World, ended


def test_the_buckets_of_a_run_sum_to_its_wall_time(world: World) -> None:
    world.drive("run", "fit")
    write_timings(world, "fit-1", ranks=2)
    spent = goodput(world.workspace, "fit-1")
    run = world.run("fit-1")
    assert sum(spent.seconds.values()) == pytest.approx(run.duration_s)
    assert spent.steps == 30
    assert spent.seconds["compute"] > 0
    assert goodput(world.workspace, "fit").wall_s == spent.wall_s, "a step stands for its newest run"


def test_explain_shows_it_for_a_run_with_timed_steps_only(world: World) -> None:
    world.drive("run", "fit")
    assert "goodput" not in explain(world.workspace, "fit-1")
    write_timings(world, "fit-1", ranks=1)
    assert "was compute that counts" in str(explain(world.workspace, "fit-1")["goodput"])


def test_attempts_that_were_lost_are_counted(world: World) -> None:
    told = iter([[(0.5, "heartbeat", {})], [ended()]])
    world.scripts["make"] = lambda _: next(told, [ended("failed", "user_error", "no")])
    world.drive("run", "make")
    spent = goodput(world.workspace, "make-1")
    assert spent.failures >= 1
    assert spent.seconds["recovery"] > 0
    assert sum(spent.seconds.values()) == pytest.approx(world.run("make-1").duration_s)


def test_a_run_that_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(NotFound):
        goodput(world.workspace, "nothing-1")


def test_only_ranks_have_timings(world: World) -> None:
    world.drive("run", "fit")
    write_timings(world, "fit-1", ranks=3)
    run = world.run("fit-1")
    entries = entries_of(world.workspace, run, run.attempts[0])
    assert list(timings_of(entries)) == [0, 1, 2]
    assert {entry.kind for entry in entries} > {"timing"}
