from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.train.generations import Again, Broken, Death, GiveUp, Survivor, cause, chosen, class_of, decide, fitting, limits_of
from train.samples import attempt_in


def survivor(rank: int, step: int | None, failure: str = "worker_lost", **more: Any) -> Survivor:
    position = None if step is None else {"loop": 0, "epoch": 0, "sample": step * 64, "step": step}
    return Survivor(rank, failure, f"rank {rank} felt it", position, **more)


def death(rank: int, signal: str = "SIGKILL", step: int = 9, failure: str = "worker_lost") -> Death:
    return Death(rank, signal, step, failure, f"rank {rank} was ended by {signal}")


BROKEN = Broken(
    generation=0, world_size=4, deaths=(death(2),), survivors=(survivor(0, 10), survivor(1, 9), survivor(3, 9)),
    restarts_left=3, least=4, wanted=4, furthest=10,
)  # fmt: skip


def always(rank: int, step: int) -> bool:
    return True


def go(broken: Broken, *, in_memory: bool = True, drawn: Any = always) -> Again:
    decision = decide(broken, drawn, in_memory=in_memory)
    assert isinstance(decision, Again)
    return decision


def test_the_furthest_gives_its_state_and_the_dead_one_is_forked_anew() -> None:
    again = go(BROKEN)
    assert set(again.moved) == {0, 1, 3}
    assert [each.rank for each in again.forked] == [2]
    assert {each.source for each in (*again.moved.values(), *again.forked)} == {0}
    assert {each.generation for each in again.moved.values()} == {1}
    assert (again.step, again.lost_steps, again.exact) == (10, 0, True)


def test_a_step_at_which_all_generators_are_known_is_better_than_one_more_step() -> None:
    again = go(BROKEN, drawn=lambda rank, step: (rank, step) != (2, 10))
    assert (again.step, again.lost_steps, again.exact) == (9, 1, True)
    assert next(iter(again.moved.values())).source == 1
    unknown = go(BROKEN, drawn=lambda rank, step: rank != 2)
    assert (unknown.step, unknown.exact) == (10, False)


def test_where_no_state_is_whole_all_go_back_to_the_newest_checkpoint_in_their_processes() -> None:
    nobody = replace(BROKEN, survivors=(survivor(0, None), survivor(1, None), survivor(3, None)), checkpoints=({"step": 7}, {"step": 3}))
    again = go(nobody)
    assert set(again.moved) == {0, 1, 3}
    assert (again.step, again.lost_steps) == (7, 3)
    assert {(each.source, (each.checkpoint or {}).get("step")) for each in again.moved.values()} == {(None, 7)}


def test_where_a_rank_holds_a_part_of_the_model_all_are_forked_anew() -> None:
    again = go(replace(BROKEN, checkpoints=({"step": 7},)), in_memory=False)
    assert again.moved == {}
    assert [each.rank for each in again.forked] == [0, 1, 2, 3]
    assert again.step == 7


def test_restarts_are_counted_but_a_change_of_size_is_none() -> None:
    assert decide(replace(BROKEN, restarts_left=0), always, in_memory=True) == GiveUp("worker_lost", "rank 2 was ended by SIGKILL")
    resized = replace(
        BROKEN, restarts_left=0, deaths=(), least=1, wanted=2, survivors=tuple(survivor(rank, 10, "resize") for rank in range(4))
    )
    again = go(resized)
    assert (again.failure, set(again.moved), again.forked) == ("resize", {0, 1}, ())


def test_a_crash_at_the_step_of_the_last_one_is_the_programs_own() -> None:
    crashed = replace(BROKEN, deaths=(death(2, "SIGSEGV"),), crash=("SIGSEGV", 9))
    decision = decide(crashed, always, in_memory=True)
    assert isinstance(decision, GiveUp)
    assert decision.failure == "crash_loop"
    for other in (("SIGSEGV", 8), ("SIGABRT", 9), None):
        go(replace(crashed, crash=other))
    go(replace(BROKEN, crash=("SIGKILL", 9)))  # a kill comes from outside


def test_a_bad_number_goes_back_as_far_as_was_asked_and_skips_the_batch() -> None:
    where = (0, 1, 128)
    bad = replace(
        BROKEN, deaths=(), survivors=tuple(survivor(rank, 10, "numeric", where=where) for rank in range(4)),
        checkpoints=({"step": 8}, {"step": 6}, {"step": 2}), skip=((0, 0, 64),), spec={"rollback": 2},
    )  # fmt: skip
    again = go(bad)
    assert again.step == 6
    assert {each.skip for each in again.moved.values()} == {((0, 0, 64), where)}
    assert go(replace(bad, spec={"rollback": 9})).step == 2


def test_out_of_memory_halves_the_micro_batch_at_each_time() -> None:
    full = replace(BROKEN, deaths=(), survivors=(survivor(0, 9, "out_of_memory"), survivor(1, 9), survivor(2, 9), survivor(3, 9)))
    assert {each.spec["accumulate"] for each in go(full).moved.values()} == {2}
    assert {each.spec["accumulate"] for each in go(replace(full, spec={"accumulate": 2})).moved.values()} == {4}


def test_a_shrunk_world_is_one_among_which_the_batch_divides() -> None:
    assert fitting(3, 1, 64) == 2
    assert fitting(8, 2, 64) == 8
    assert fitting(7, 5, 64) is None
    smaller = replace(BROKEN, least=1, wanted=3, batch_size=64)
    again = go(smaller)
    assert sorted(each.rank for each in again.moved.values()) == [0, 1]
    impossible = decide(replace(smaller, least=3), always, in_memory=True)
    assert isinstance(impossible, GiveUp)
    assert "divides the batch size 64" in impossible.message


@given(
    world=st.integers(1, 8),
    wanted=st.integers(1, 8),
    dead=st.sets(st.integers(0, 7)),
    steps=st.lists(st.integers(5, 6), min_size=8, max_size=8),
)
def test_every_seat_is_taken_once(world: int, wanted: int, dead: set[int], steps: list[int]) -> None:
    deaths = tuple(death(rank) for rank in sorted(dead) if rank < world)
    survivors = tuple(survivor(rank, steps[rank]) for rank in range(world) if rank not in dead)
    if not deaths:
        return
    broken = Broken(3, world, deaths, survivors, 1, 1, wanted, furthest=6)
    again = go(broken)
    seats = [each.rank for each in (*again.moved.values(), *again.forked)]
    assert sorted(seats) == list(range(wanted))
    sources = {each.source for each in (*again.moved.values(), *again.forked)}
    assert len(sources) == 1
    source = sources.pop()
    if source is not None:
        assert source in [each.rank for each in again.moved.values()], "the one who gives keeps its process"


def test_the_furthest_is_chosen_and_none_of_none() -> None:
    assert chosen([survivor(0, 3), survivor(1, 4)], range(2), always) == survivor(1, 4)
    assert chosen([survivor(0, None)], range(1), always) is None


@pytest.mark.parametrize(
    ("by_log", "failure"),
    [(None, "hang"), ("exclude_node", "node_lost"), ("stop", "user_error"), ("restart", "worker_lost"), ("numeric", "numeric")],
)
def test_what_the_log_says_counts(by_log: str | None, failure: str) -> None:
    assert class_of("hang", by_log) == failure


def test_the_limits_of_an_attempt(tmp_path: Path) -> None:
    assert limits_of(attempt_in(tmp_path, world_size=3)) == (3, 3)
    assert limits_of(attempt_in(tmp_path, token=2, world_size=3, workers=[2, 8])) == (2, 8)


def test_a_death_is_the_cause_before_what_the_others_felt() -> None:
    assert cause(replace(BROKEN, deaths=(death(2, failure="out_of_memory"), death(1)))) == ("out_of_memory", "rank 2 was ended by SIGKILL")


@pytest.mark.parametrize("failure", ["numeric", "out_of_memory"])
def test_a_reason_of_ones_own_is_the_cause_before_its_echo_on_others(failure: str) -> None:
    felt = (survivor(0, 9), survivor(1, 9, failure), survivor(2, 9))
    assert cause(replace(BROKEN, deaths=(), survivors=felt)) == (failure, "rank 1 felt it")


def test_without_a_reason_the_ranks_lost_touch() -> None:
    assert cause(replace(BROKEN, deaths=())) == ("worker_lost", "the ranks lost touch: rank 0 felt it")


def test_a_change_of_size_is_told_in_numbers() -> None:
    resized = replace(BROKEN, deaths=(), survivors=(survivor(0, 9, "resize"), survivor(1, 9, "resize")), wanted=6)
    assert cause(resized) == ("resize", "from 4 to 6 workers")


@pytest.mark.parametrize("failure", ["node_lost", "user_error"])
def test_what_another_start_does_not_mend_ends_the_attempt_however_many_are_left(failure: str) -> None:
    ended = decide(replace(BROKEN, deaths=(death(2, failure=failure),), restarts_left=99), always, in_memory=True)
    assert ended == GiveUp(failure, "rank 2 was ended by SIGKILL")


def test_more_ranks_than_before_keep_all_processes_and_fork_the_new_ones() -> None:
    grown = replace(BROKEN, deaths=(), survivors=tuple(survivor(rank, 10, "resize") for rank in range(4)), wanted=6, least=1)
    again = go(grown)
    assert {before: each.rank for before, each in again.moved.items()} == {0: 0, 1: 1, 2: 2, 3: 3}
    assert [(each.rank, each.world_size, each.drawn_by) for each in again.forked] == [(4, 6, 4), (5, 6, 5)]


def test_a_rank_that_moves_takes_the_numbers_that_it_drew_itself() -> None:
    smaller = replace(BROKEN, deaths=(death(0),), survivors=(survivor(1, 10), survivor(2, 10), survivor(3, 10)), least=1, wanted=3)
    again = go(smaller)
    assert {before: (each.rank, each.drawn_by) for before, each in again.moved.items()} == {1: (1, 1), 2: (2, 2), 3: (0, 3)}
    assert again.forked == ()


def test_the_one_whose_state_all_take_keeps_a_seat_even_when_its_number_is_gone() -> None:
    survivors = (survivor(0, 9), survivor(1, 9), survivor(3, 10))
    again = go(replace(BROKEN, survivors=survivors, least=1, wanted=2))
    assert {before: each.rank for before, each in again.moved.items()} == {0: 0, 3: 1}
    assert {each.source for each in again.moved.values()} == {1}


@pytest.mark.parametrize(("rollback", "step"), [(None, 8), (0, 8), (1, 8), (2, 6), (3, 2), (50, 2)])
def test_how_far_a_bad_number_goes_back(rollback: int | None, step: int) -> None:
    bad = replace(
        BROKEN, deaths=(), survivors=(survivor(0, 10, "numeric", where=(0, 0, 64)),), spec={"rollback": rollback},
        checkpoints=({"step": 8}, {"step": 6}, {"step": 2}),
    )  # fmt: skip
    again = go(bad)
    assert (again.step, again.lost_steps) == (step, 10 - step)


def test_a_batch_that_several_ranks_tell_of_is_skipped_once() -> None:
    bad = replace(BROKEN, deaths=(), survivors=tuple(survivor(rank, 10, "numeric", where=(0, 0, 64)) for rank in range(4)))
    assert {each.skip for each in go(bad).moved.values()} == {((0, 0, 64),)}


def test_without_state_and_without_checkpoint_all_begin_at_the_beginning() -> None:
    again = go(replace(BROKEN, survivors=(survivor(0, None),), furthest=6))
    assert (again.step, again.lost_steps, again.exact) == (0, 6, True)
    assert {(each.source, each.checkpoint, each.position) for each in (*again.moved.values(), *again.forked)} == {(None, None, None)}


@pytest.mark.parametrize(
    ("wanted", "least", "batch_size", "size"),
    [
        (4, 1, None, 4),
        (4, 4, None, 4),
        (4, 1, 6, 3),
        (5, 3, 64, 4),
        (7, 7, 64, None),
        (3, 0, 64, 2),
        (1, 0, 7, 1),
        (2, 3, 64, None),
        (6, 2, 13, None),
    ],
)
def test_the_most_workers_among_which_a_batch_divides(wanted: int, least: int, batch_size: int | None, size: int | None) -> None:
    assert fitting(wanted, least, batch_size) == size


def test_of_those_that_are_as_far_the_lowest_rank_is_chosen() -> None:
    assert chosen([survivor(3, 4), survivor(1, 4), survivor(2, 3)], range(4), always) == survivor(1, 4)


def test_what_was_left_out_and_what_was_set_before_stays_so() -> None:
    again = go(replace(BROKEN, skip=((0, 0, 64),), spec={"accumulate": 4}))
    assert {(each.skip, each.spec["accumulate"]) for each in (*again.moved.values(), *again.forked)} == {(((0, 0, 64),), 4)}
