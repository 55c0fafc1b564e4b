"""Telling a live run how many workers it should have: where its ranks look, and only what the job allows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bedplate.core.errors import BedplateError, NotFound
from bedplate.flow.scaling import WORKERS_FILE, scale
from bedplate.train.ranks import WORKERS_FILE as READ_BY_RANKS
from flow.world import FOREVER_S, SHOP, World

ELASTIC = SHOP.replace("params: {lr: 0.1}\n    resources: {cpus: 0.2}", "params: {lr: 0.1}\n    resources: {cpus: 0.2, workers: 1..4}")


@pytest.fixture(params=[ELASTIC, SHOP], ids=["elastic", "fixed"])
def live(world: World, request: pytest.FixtureRequest) -> Iterator[World]:
    """A world whose run of `fit` does not end."""
    world.scripts["fit"] = lambda _: [(FOREVER_S, "ended", {"status": "stopped"})]
    world.declare(request.param)
    world.ask("run", "fit")
    with world.loop() as loop:
        world.tick(loop, lambda: bool(world.run("fit").state.live) if world.workspace.refresh().of_step("fit") else False)
    yield world


def is_elastic(world: World) -> bool:
    return bool(world.run("fit").made["spec"]["workers"] == [1, 4])


def test_a_number_within_the_range_is_left_where_the_ranks_look(live: World) -> None:
    if not is_elastic(live):
        with pytest.raises(BedplateError, match="not elastic"):
            scale(live.workspace, "fit", 1)
        return
    run, bounds = scale(live.workspace, "fit", 3)
    assert (run.id, bounds) == ("fit-1", (1, 4))
    assert (live.workspace.attempt_folder("fit-1", 1).parent / READ_BY_RANKS).read_text() == "3"
    assert WORKERS_FILE == READ_BY_RANKS
    scale(live.workspace, "fit-1", 1)
    assert (live.workspace.attempt_folder("fit-1", 1).parent / READ_BY_RANKS).read_text() == "1"
    with pytest.raises(BedplateError, match="from 1 to 4"):
        scale(live.workspace, "fit", 5)


def test_what_is_over_or_unknown_is_refused(world: World) -> None:
    world.drive("run", "make")
    with pytest.raises(NotFound, match="not running"):
        scale(world.workspace, "make", 1)
    with pytest.raises(NotFound, match="no such run"):
        scale(world.workspace, "mkae", 1)
