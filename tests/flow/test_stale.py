"""Staleness: what is up to date, what must run, what waits, and the reason in a person's words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bedplate.core.digest import digest
from bedplate.core.plan import PlannedStep, Step
from bedplate.core.pool import Inventory, Pool
from bedplate.core.record import RunRecord
from bedplate.core.run import RunState
from bedplate.core.versions import Version
from bedplate.flow.closure import Closure
from bedplate.flow.facts import Facts, Made
from bedplate.flow.stale import components, judge

POOL = Pool("local", "local", (Inventory("host", "Linux", "cpu", 2, 2**34),))
STEPS = (
    Step("rows", "ingest", (), {"format": 1}, sources=("rows.csv",)),
    Step("sums", "feature", ("rows",), {"format": 1, "windows": ["6h"]}),
    Step("fit", "train", ("sums",), {"format": 1}, entries=("fit.py",)),
)


def facts(**changes: Any) -> Facts:
    code = {"fit": Closure(("fit.py",), "c0de", (("numpy", "2.0"),))}
    empty = Facts(code, {"rows.csv": "aaaa"}, {step.name: () for step in STEPS}, {}, {}, {}, (POOL,))
    return replace(empty, **changes)


def made_all(steps: tuple[Step, ...], world: Facts, tag: str = "1") -> Facts:
    """The facts after every step of `steps` ran under `world`."""
    for step in steps:
        inputs = {need: world.made[need][0].outputs for need in step.needs}
        parts = components(step, world, inputs)
        version = Version(step.name, 1, "table", digest([step.name, tag]), "x", f"{step.name}-{tag}", 0.0)
        payload = {"fingerprint": digest(parts), "components": parts}
        run = RunRecord(f"{step.name}-{tag}", step.name, step.kind, "up-1", 0.0, RunState(step.name, "succeeded"), payload, ended_at_s=5.0)
        world = replace(world, made={**world.made, step.name: (Made(run, {step.name: version}, True), *world.made[step.name])})
    return world


def verdicts(planned: tuple[PlannedStep, ...]) -> dict[str, str]:
    return {step.step.name: step.verdict for step in planned}


def why(planned: tuple[PlannedStep, ...], name: str) -> str:
    return next(step.why for step in planned if step.step.name == name)


def test_at_first_the_source_runs_and_the_rest_waits_for_it() -> None:
    planned = judge(STEPS, facts())
    assert verdicts(planned) == {"rows": "run", "sums": "waits", "fit": "waits"}
    assert why(planned, "rows") == "never made"
    assert why(planned, "fit") == "after sums"


def test_after_all_ran_all_is_fresh_and_says_by_which_run() -> None:
    planned = judge(STEPS, made_all(STEPS, facts()))
    assert set(verdicts(planned).values()) == {"fresh"}
    assert why(planned, "sums") == "sums@1 by sums-1"
    assert planned[0].estimate_s == 5.0


def test_a_changed_source_runs_its_reader_and_makes_the_rest_wait() -> None:
    planned = judge(STEPS, replace(made_all(STEPS, facts()), sources={"rows.csv": "bbbb"}))
    assert verdicts(planned) == {"rows": "run", "sums": "waits", "fit": "waits"}
    assert why(planned, "rows") == "rows.csv changed since rows-1"


def test_a_reader_that_makes_the_same_again_leaves_the_rest_fresh() -> None:
    before = made_all(STEPS, facts())
    changed = replace(before, sources={"rows.csv": "bbbb"})
    again = made_all(STEPS[:1], changed)  # the same content under a new fingerprint
    assert set(verdicts(judge(STEPS, again)).values()) == {"fresh"}


def test_a_changed_window_runs_the_feature_and_makes_only_what_follows_wait() -> None:
    after = (STEPS[0], replace(STEPS[1], spec={"format": 1, "windows": ["6h", "7d"]}), STEPS[2])
    planned = judge(after, made_all(STEPS, facts()))
    assert verdicts(planned) == {"rows": "fresh", "sums": "run", "fit": "waits"}
    assert why(planned, "sums") == "its declaration changed since sums-1"


def test_changed_code_and_packages_are_named() -> None:
    world = made_all(STEPS, facts())
    code = {"fit": Closure(("fit.py",), "other", (("numpy", "3.0"),))}
    planned = judge(STEPS, replace(world, code=code))
    assert verdicts(planned) == {"rows": "fresh", "sums": "fresh", "fit": "run"}
    assert why(planned, "fit") == "its code changed; packages changed (numpy 3.0) since fit-1"


def test_going_back_to_what_was_finds_the_earlier_run() -> None:
    world = made_all(STEPS, facts())
    changed = replace(world, sources={"rows.csv": "bbbb"})
    world = replace(made_all(STEPS[:1], changed, "2"), sources={"rows.csv": "aaaa"})
    assert why(judge(STEPS, world), "rows") == "rows@1 by rows-1"


def test_an_output_that_is_gone_is_made_again() -> None:
    world = made_all(STEPS, facts())
    gone = replace(world.made["sums"][0], present=False)
    planned = judge(STEPS, replace(world, made={**world.made, "sums": (gone,)}))
    assert verdicts(planned) == {"rows": "fresh", "sums": "run", "fit": "waits"}
    assert why(planned, "sums") == "what sums-1 made is gone"


def test_force_runs_a_fresh_step_once_and_what_the_launch_made_is_pinned() -> None:
    world = made_all(STEPS, facts())
    assert verdicts(judge(STEPS, world, ["sums"])) == {"rows": "fresh", "sums": "run", "fit": "waits"}
    pinned = replace(world, pinned={"sums": world.made["sums"][0]})
    assert set(verdicts(judge(STEPS, pinned, ["sums"])).values()) == {"fresh"}


def test_an_accepted_step_counts_as_made() -> None:
    world = made_all(STEPS, facts())
    after = (STEPS[0], replace(STEPS[1], spec={"format": 1, "windows": ["7h"]}), STEPS[2])
    wanted = judge(after, world)[1].fingerprint
    assert wanted is not None
    planned = judge(after, replace(world, accepted={"sums": wanted}))
    assert set(verdicts(planned).values()) == {"fresh"}
    assert why(planned, "sums") == "accepted as made by sums-1"


def gate_and_endpoint(version: Version | None) -> tuple[tuple[Step, ...], Facts]:
    steps = (
        *STEPS,
        Step("model", "gate", ("fit",), {"promote": {"to": "production"}}),
        Step("api", "endpoint", ("model",), {"model": "model", "alias": "production"}),
    )
    world = facts(made={step.name: () for step in steps}, aliased={"model": version} if version else {})
    return steps, made_all(steps[:4], world)


def test_an_endpoint_follows_the_alias_whoever_moved_it() -> None:
    first, second = (Version("model", n, "model", digest(n), "x", "fit-1", 0.0) for n in (1, 2))
    steps, world = gate_and_endpoint(first)
    fingerprint = judge(steps, world)[-1].fingerprint
    run = RunRecord("api-1", "api", "endpoint", "up-1", 0.0, RunState("api", "running", 1, True), {"fingerprint": fingerprint}, port=8000)
    serving = replace(world, serving={"api": run})
    assert judge(steps, serving)[-1].verdict == "fresh"
    moved = judge(steps, replace(serving, aliased={"model": second}))
    assert verdicts(moved)["model"] == "fresh"
    assert moved[-1].verdict == "run"


def test_an_endpoint_that_is_not_up_runs() -> None:
    steps, world = gate_and_endpoint(Version("model", 1, "model", "m", "x", "fit-1", 0.0))
    planned = judge(steps, world)
    assert (planned[-1].verdict, planned[-1].why) == ("run", "not serving")


def test_a_table_that_was_rolled_back_is_fresh_with_that_version_whatever_its_source_is() -> None:
    first = made_all(STEPS, facts())
    second = made_all(STEPS, replace(first, sources={"rows.csv": "bbbb"}), "2")
    held = {"rows": (first.made["rows"][0], "held at rows@1 by ana: bad rows")}
    planned = judge(STEPS, replace(second, held=held), force=["rows"])
    assert verdicts(planned) == {"rows": "fresh", "sums": "fresh", "fit": "fresh"}
    assert why(planned, "rows") == "held at rows@1 by ana: bad rows"
    assert [step.made_by for step in planned] == ["rows-1", "sums-1", "fit-1"], "what follows is what was made of that version"
