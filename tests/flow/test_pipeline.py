"""What a pipeline asks of a project: the comment, the mark, and the way back."""

from __future__ import annotations

from bedplate.flow.deciding import check
from bedplate.flow.moving import promote
from bedplate.flow.pipeline import back, comment, mark, pipeline_of
from flow.world import SHOP, World


def second(world: World) -> None:
    """Two versions, the second in production."""
    world.drive("up")
    world.contents["fit"] = "2"
    world.declare(SHOP.replace("lr: 0.1", "lr: 0.2"))
    world.drive("up")


def test_every_alias_goes_back_to_the_mark_with_a_reason(world: World) -> None:
    world.drive("up")
    before = mark(world.workspace)
    assert before == {"price": 1}
    world.contents["fit"] = "2"
    world.declare(SHOP.replace("lr: 0.1", "lr: 0.2"))
    world.drive("up")
    assert mark(world.workspace) == {"price": 2}
    [returned] = back(world.workspace, before, "the canary failed")
    assert (returned.model, returned.version, returned.left, returned.why) == ("price", "price@1", "price@2", "")
    assert mark(world.workspace) == before
    move = world.workspace.records.moves("price")["production"][-1]
    assert "the canary failed" in move.decision["why"]
    assert check(world.workspace, world.workspace.records.version("price@1")).holds, "and that decision is signed as well"
    assert back(world.workspace, before, "again") == [], "what did not move is left alone"


def test_the_first_version_has_nothing_to_go_back_to(world: World) -> None:
    before = mark(world.workspace)
    assert before == {"price": None}
    world.drive("up")
    [returned] = back(world.workspace, before, "the canary failed")
    assert returned.version == "price@1" and "no version before" in returned.why
    assert mark(world.workspace) == {"price": 1}


def test_the_comment_says_what_would_run_and_how_the_models_stand(world: World) -> None:
    first = comment(world.workspace)
    assert "### bedplate plan: shop" in first and "| make | job | run | unknown | never made |" in first
    assert "9 steps would run or wait, 0 are up to date. No step of them ran before." in first
    assert "#### price\n\nNo version was graded yet." in first
    second(world)
    fresh = comment(world.workspace)
    assert "Nothing would run: all 9 steps are up to date." in fresh
    assert "| metric | price@\u20602 | price@\u20601 |" in fresh and "| rmse | 1 |" in fresh
    assert "fit.inputs@\u20601: promoted: rmse &lt;= 5." in fresh
    world.declare(SHOP.replace("lr: 0.1", "lr: 0.3"))
    changed = comment(world.workspace)
    assert "| fit | train | run | " in changed and "its declaration changed since fit-2" in changed
    assert "by the last runs" in changed


def test_with_pools_the_comment_says_what_it_would_cost_and_what_may_run_nowhere(world: World) -> None:
    pools = "pools: {colo: {engine: local, price: {on_demand: 3600, source: contract, at: 2026-01-01}}}\n"
    (world.folder / "pools.yaml").write_text(pools)
    assert "Cost: unknown." in comment(world.workspace)
    world.drive("run", "fit")
    world.declare(SHOP.replace("lr: 0.1", "lr: 0.3"))
    told = comment(world.workspace)
    assert "USD, and that of" in told and "never ran." in told
    world.declare(SHOP.replace("lr: 0.1", "lr: 0.3") + "policies: {pools: [elsewhere]}\n")
    assert "**May run nowhere:** fit, " in comment(world.workspace)


def test_a_pipeline_trains_judges_and_serves_what_is_declared(world: World) -> None:
    made = pipeline_of(world.workspace, "main", "gpu", "/state")
    assert (made.project, made.jobs, made.models, made.endpoints) == ("shop", ("fit",), ("price",), ("prices",))
    assert (made.branch, made.pool, made.state) == ("main", "gpu", "/state")


def test_a_move_by_hand_meanwhile_is_taken_back_too(world: World) -> None:
    second(world)
    before = mark(world.workspace)
    promote(world.workspace, "price@1", "by hand")
    assert [each.version for each in back(world.workspace, before, "no")] == ["price@2"]
