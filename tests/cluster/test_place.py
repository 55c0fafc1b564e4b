"""The place pass: every step gets what it asked for or an answer why not, and steps together never take more than there is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.cluster.place import capacity, fits, place
from bedplate.core.errors import NotFound, Unavailable
from bedplate.core.plan import Plan, PlannedStep, Step, StepKind
from bedplate.core.pool import Accelerator, Inventory, Placement, Pool
from bedplate.core.spec import Resources

GB = 10**9


def pool_of(cores: int = 2, memory_gb: int = 16, accelerators: int = 0) -> Pool:
    devices = tuple(Accelerator(index, "H200", 141 * GB, "570.1") for index in range(accelerators))
    return Pool("local", "local", (Inventory("host", "Linux", "a processor", cores, memory_gb * GB, (), devices),))


def placed(resources: Resources, pool: Pool) -> Placement:
    plan = Plan("flights", ("fit",), (PlannedStep(Step("fit", "train", (), {}, resources=resources)),))
    placement = place(plan, [pool]).step("fit").placement
    assert placement is not None
    return placement


def refused(resources: Resources, pool: Pool) -> str:
    with pytest.raises(Unavailable) as error:
        placed(resources, pool)
    return error.value.one_line()


def step_of(name: str, kind: StepKind, *outputs: str) -> PlannedStep:
    return PlannedStep(Step(name, kind, (), {"outputs": outputs}))


def test_jobs_go_to_the_pool_that_is_named_and_what_makes_data_stays() -> None:
    lab = replace(pool_of(cores=8), name="lab", engine="ssh")
    steps = (step_of("rows", "ingest"), step_of("fit", "train"), step_of("make", "job", "x.csv"), step_of("tell", "job", "log://topic"))
    plan = Plan("flights", (), steps)
    where = {each.step.name: each.placement.pool for each in place(plan, [pool_of(), lab], "lab").steps if each.placement}
    assert where == {"rows": "local", "fit": "lab", "make": "lab", "tell": "local"}
    assert {each.placement.pool for each in place(plan, [pool_of(), lab]).steps if each.placement} == {"local"}
    with pytest.raises(NotFound, match="did you mean 'lab'"):
        place(plan, [pool_of(), lab], "labs")


def test_a_job_that_this_machine_cannot_hold_goes_to_one_that_can_and_data_does_not() -> None:
    pools = [pool_of(memory_gb=4), replace(pool_of(memory_gb=64), name="lab", engine="ssh")]
    large = Resources(memory_gb=32)
    fit, rows = (PlannedStep(Step(kind, kind, (), {}, resources=large)) for kind in ("train", "ingest"))
    (after,) = place(Plan("flights", (), (fit,)), pools).steps
    assert after.placement is not None
    assert after.placement.pool == "lab"
    with pytest.raises(Unavailable, match="does not fit in memory"):
        place(Plan("flights", (), (rows,)), pools)


def test_steps_that_may_run_are_placed_and_fresh_ones_are_not() -> None:
    steps = tuple(PlannedStep(Step(verdict, "job", (), {}), verdict) for verdict in ("run", "fresh", "waits"))
    before = Plan("flights", (), steps)
    after = place(before, [pool_of()])
    where = Placement("local", "local", 1, (), "1 worker on 1 of 2 cores")
    assert [step.placement for step in after.steps] == [where, None, where]
    assert [step.placement for step in before.steps] == [None, None, None], "the plan that was given is unchanged"
    assert place(after, [pool_of()]) == after
    assert [step.step for step in after.steps] == [step.step for step in before.steps]


@pytest.mark.parametrize(
    ("resources", "cores", "why"),
    [
        (Resources(), 1, "1 worker on 1 of 1 core"),
        (Resources(workers=2), 1, "2 workers share 1 core"),
        (Resources(workers=3, cpus=0.5), 2, "3 workers on 1.5 of 2 cores"),
        (Resources(cpus=8), 4, "1 worker wants 8 cores and gets 4"),
        (Resources(workers=10, cpus=0.1), 1, "10 workers on 1 of 1 core"),
    ],
)
def test_more_cores_than_there_are_is_allowed_and_said(resources: Resources, cores: int, why: str) -> None:
    placement = placed(resources, pool_of(cores))
    assert placement.world_size == resources.workers
    assert placement.why == why


@pytest.mark.parametrize(
    ("workers", "wanted", "there", "given", "why"),
    [
        (1, "0", 4, (), "1 worker on 1 of 8 cores"),
        (1, "0..1", 0, (), "1 worker on 1 of 8 cores, none of 0 accelerators"),
        (1, "0..1", 4, (0,), "1 worker on 1 of 8 cores, 1 of 4 accelerators"),
        (1, "1..8", 4, (0, 1, 2, 3), "1 worker on 1 of 8 cores, 4 of 4 accelerators"),
        (2, "1..8", 5, (0, 1, 2, 3), "2 workers on 2 of 8 cores, 4 of 5 accelerators"),  # each the same
        (4, "0..1", 3, (), "4 workers on 4 of 8 cores, none of 3 accelerators"),  # or none
        (1, "1", 1, (0,), "1 worker on 1 of 8 cores, 1 of 1 accelerator"),
    ],
)
def test_accelerators_as_many_as_there_are_up_to_the_most(workers: int, wanted: str, there: int, given: tuple[int, ...], why: str) -> None:
    placement = placed(Resources(workers=workers, accelerators=wanted), pool_of(8, accelerators=there))
    assert (placement.accelerators, placement.why) == (given, why)


def test_devices_are_named_as_the_driver_counts() -> None:
    devices = tuple(Accelerator(index, "L4", 24 * GB, "570.1") for index in (1, 3))  # the others did not answer
    pool = Pool("local", "local", (Inventory("host", "Linux", "a processor", 8, 16 * GB, (), devices),))
    assert placed(Resources(accelerators="0..8"), pool).accelerators == (1, 3)


def test_too_few_accelerators_is_refused_with_the_fix() -> None:
    assert refused(Resources(workers=2, accelerators="1..2"), pool_of(accelerators=1)) == (
        "step 'fit' needs more accelerators than there are (got '2 workers with 1 each'). "
        "Fix: pool 'local' has 1; ask for a range such as 0..2, or for fewer workers"
    )


def test_accelerators_of_a_type_are_those_whose_model_names_it() -> None:
    assert placed(Resources(accelerators="h200:2"), pool_of(accelerators=2)).accelerators == (0, 1)
    assert placed(Resources(accelerators="v5e:0..8"), pool_of(accelerators=2)).accelerators == ()
    said = refused(Resources(accelerators="v5e:8"), pool_of(accelerators=8))
    assert "asks for TPUs, and no engine here runs on any (got 'v5e:8')" in said
    assert "for a range such as v5e:0..8" in said


def test_more_memory_than_there_is_is_refused_with_the_fix() -> None:
    assert refused(Resources(workers=3, memory_gb=6), pool_of(memory_gb=16)) == (
        "step 'fit' does not fit in memory (got '3 workers of 6 GB'). Fix: ask for less: pool 'local' has 16.0 GB"
    )
    assert placed(Resources(workers=2, memory_gb=8), pool_of(memory_gb=16)).world_size == 2


def test_no_pool_at_all() -> None:
    plan = Plan("flights", (), (PlannedStep(Step("fit", "train", (), {})),))
    with pytest.raises(Unavailable, match="nowhere to run"):
        place(plan, [])
    assert place(Plan("flights", (), ()), []).steps == ()


def test_the_capacity_of_a_pool_is_that_of_its_machines() -> None:
    assert capacity(pool_of(2)) == 2.0
    assert capacity(Pool("two", "local", pool_of(2).machines + pool_of(3).machines)) == 5.0


@pytest.mark.parametrize(
    ("running", "wanted", "answer"),
    [
        ([], Resources(workers=64, memory_gb=999, accelerators="8"), True),  # alone, always
        ([Resources()], Resources(), True),
        ([Resources(), Resources()], Resources(cpus=0.1), False),
        ([Resources(cpus=0.1)] * 19, Resources(cpus=0.1), True),
        ([Resources(cpus=0.1)] * 20, Resources(cpus=0.1), False),
        ([Resources(memory_gb=10)], Resources(memory_gb=6), True),
        ([Resources(memory_gb=10)], Resources(memory_gb=7), False),
        ([Resources(accelerators="1")], Resources(), True),
        ([Resources(accelerators="1")], Resources(accelerators="0..1"), False),  # it would be given the device that is taken
    ],
)
def test_steps_start_together_while_there_is_room(running: list[Resources], wanted: Resources, answer: bool) -> None:
    assert fits(running, wanted, pool_of(2, 16, 1)) is answer


RESOURCES = st.builds(
    Resources,
    workers=st.integers(1, 4),
    cpus=st.sampled_from([0.1, 0.5, 1.0, 2.0]),
    memory_gb=st.sampled_from([0.0, 1.0, 5.0]),
    accelerators=st.sampled_from(["0", "0..1", "0..4"]),
)


@given(st.lists(RESOURCES, max_size=12), st.integers(1, 8), st.integers(0, 4))
def test_what_starts_together_never_takes_more_than_there_is(wanted: list[Resources], cores: int, accelerators: int) -> None:
    pool = pool_of(cores, accelerators=accelerators)
    running: list[Resources] = []
    for resources in wanted:
        if fits(running, resources, pool):
            running.append(resources)
    assert len(running) >= bool(wanted)
    if len(running) > 1:
        assert sum(resources.workers * resources.cpus for resources in running) <= cores + 1e-6
        assert sum(resources.workers * resources.memory_gb for resources in running) <= 16
        given = [device for resources in running for device in placed(resources, pool).accelerators]
        assert len(given) == len(set(given)), "no device is given to two steps"


@pytest.mark.parametrize(("cores", "cpus", "workers"), [(1, 1.0, 2), (4, 1.0, 4), (64, 1.0, 8), (4, 0.5, 8), (10, 4.0, 2)])
def test_a_range_of_workers_takes_as_many_as_there_are_cores_for(cores: int, cpus: float, workers: int) -> None:
    wanted = Resources.model_validate({"workers": "2..8", "cpus": cpus})
    assert wanted.worker_range() == (2, 8)
    assert placed(wanted, pool_of(cores)).world_size == workers
    assert Resources.model_validate(wanted.model_dump(mode="json")) == wanted
