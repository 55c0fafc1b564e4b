"""Asking for a profiled window."""

from __future__ import annotations

from bedplate.flow.profiled import with_profile
from flow.world import SHOP, World


def test_only_the_named_jobs_get_a_window(world: World) -> None:
    spec = with_profile(world.workspace, ["fit"]).project.spec
    assert spec.jobs["fit"].profile is not None and spec.jobs["fit"].profile.steps == 10
    assert spec.jobs["make"].profile is None
    assert world.workspace.project.spec.jobs["fit"].profile is None, "the project itself is as it was"


def test_a_declared_window_stays_as_it_is(world: World) -> None:
    world.declare(SHOP.replace("params: {lr: 0.1}", "params: {lr: 0.1}\n    profile: {steps: 3, after: 7}"))
    profile = with_profile(world.workspace, ["fit"]).project.spec.jobs["fit"].profile
    assert profile is not None and (profile.steps, profile.after) == (3, 7)


def test_the_attempt_is_told_of_the_window(world: World) -> None:
    world.declare(SHOP.replace("params: {lr: 0.1}", "params: {lr: 0.1}\n    profile: {steps: 3}"))
    world.drive("run", "fit")
    (attempt,) = [attempt for attempt in world.attempts if attempt.step == "fit"]
    assert attempt.spec["profile"] == {"steps": 3, "after": 20}
    before = world.run("fit-1").fingerprint
    world.declare(SHOP)
    world.drive("run", "fit")
    assert world.run("fit").id == "fit-1" and before, "a window makes no step out of date"
