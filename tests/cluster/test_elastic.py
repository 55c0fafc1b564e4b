"""Sharing devices: whole gangs or nothing, never more than there are, what is held is kept, nobody waits forever."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bedplate.cluster.elastic import LEAST_HAD_S, PATIENCE_S, Claim, assign, gang, share

HOUR_S = 3600.0


def amdahl(most: int, serial: float) -> np.ndarray:
    """The speedup of a job of which `serial` cannot be shared."""
    devices = np.arange(1, most + 1)
    return np.array([0.0, *(1 / (serial + (1 - serial) / devices))])


claims = st.lists(
    st.builds(
        lambda size, elastic, held, had, left, waited: Claim(
            "",
            amdahl(size, 0.1) if elastic else gang(size),
            held if elastic else size * (held % 2),
            had * HOUR_S,
            None if left < 0 else left * HOUR_S,
            waited * HOUR_S,
        ),
        st.integers(1, 16),
        st.booleans(),
        st.integers(0, 4),
        st.floats(0, 100),
        st.floats(-1, 50),
        st.floats(0, 30),
    ),
    max_size=12,
).map(lambda found: [Claim(f"job-{n}", c.speedup, c.held, c.attained_s, c.remaining_s, c.waited_s) for n, c in enumerate(found)])


@settings(deadline=None)
@given(claims, st.integers(0, 40))
def test_no_device_is_given_twice_and_every_size_can_run(jobs: list[Claim], devices: int) -> None:
    got = share(jobs, devices)
    assert sum(got.values()) <= devices
    for job in jobs:
        if job.name in got:
            assert job.speedup[got[job.name]] > 0


@settings(deadline=None)
@given(claims, st.integers(1, 40))
def test_no_device_is_left_that_a_waiting_job_could_use(jobs: list[Claim], devices: int) -> None:
    got = share(jobs, devices)
    left = devices - sum(got.values())
    for job in jobs:
        if job.name not in got:
            assert not job.speedup[: left + 1].any(), f"{job.name} could have run on {left}"


def test_a_gang_gets_all_or_nothing() -> None:
    assert share([Claim("wide", gang(8))], 7) == {}
    assert share([Claim("wide", gang(8)), Claim("narrow", gang(2))], 9) == {"narrow": 2}
    assert share([Claim("wide", gang(8)), Claim("narrow", gang(2))], 10) == {"wide": 8, "narrow": 2}


def test_equal_jobs_share_equally_and_one_alone_takes_what_helps_it() -> None:
    even = share([Claim(name, amdahl(16, 0.05)) for name in "abcd"], 16)
    assert even == dict.fromkeys("abcd", 4)
    assert share([Claim("a", amdahl(4, 0.05))], 16) == {"a": 4}


def test_devices_go_where_they_help_more() -> None:
    got = share([Claim("scales", amdahl(16, 0.01)), Claim("does not", amdahl(16, 0.6))], 8)
    assert got["scales"] > 2 * got["does not"] >= 2


def test_what_is_nearly_done_goes_first() -> None:
    long, short = Claim("long", gang(4), remaining_s=40 * HOUR_S), Claim("short", gang(4), remaining_s=HOUR_S)
    assert share([long, short], 4) == {"short": 4}


def test_of_jobs_that_tell_nothing_the_one_that_had_less_goes_first() -> None:
    old, young = Claim("old", gang(4), attained_s=4 * LEAST_HAD_S), Claim("young", gang(4), attained_s=HOUR_S)
    assert share([old, young], 4) == {"young": 4}


def test_who_runs_is_not_moved_for_a_little() -> None:
    running = Claim("running", gang(4), held=4, remaining_s=1.2 * HOUR_S)
    assert share([Claim("new", gang(4), remaining_s=HOUR_S), running], 4) == {"running": 4}
    assert share([Claim("new", gang(4), remaining_s=HOUR_S / 2), running], 4) == {"new": 4}
    steady = Claim("steady", amdahl(8, 0.1), held=5)
    assert share([steady, Claim("other", amdahl(8, 0.1), held=3)], 8) == {"steady": 5, "other": 3}


@pytest.mark.parametrize("tells", [True, False])
def test_nobody_waits_forever(tells: bool) -> None:
    """Small jobs come without end; the large one gets its turn within two days."""
    waited_s = 0.0
    while waited_s < 12 * PATIENCE_S:
        left_s, had_s = (100 * HOUR_S, 0.0) if tells else (None, 100 * HOUR_S)
        large = Claim("large", gang(16), 0, had_s, left_s, waited_s)
        small = [Claim(f"small-{n}", gang(1), int(n % 2), 0.0, 60.0 if tells else None) for n in range(32)]
        if "large" in share([*small, large], 16):
            return
        waited_s += HOUR_S
    pytest.fail("it never ran")


@settings(deadline=None)
@example([8, 9, 9, 9, 9, 9, 9, 9, 9], 0)
@given(st.lists(st.integers(1, 12), max_size=10), st.integers(0, 3))
def test_every_job_is_placed_whole_within_the_nodes(sizes: list[int], kept: int) -> None:
    capacity = dict.fromkeys(range(16), 8)
    counts = {f"job-{number}": size for number, size in enumerate(sizes)}
    first = assign(counts, {}, capacity)
    for name, at in first.items():
        assert sum(at.values()) == counts[name]
        assert len(at) == math.ceil(counts[name] / 8), "on as few nodes as hold it: there is room"
    for node in capacity:
        assert sum(at.get(node, 0) for at in first.values()) <= 8
    fewer = dict(list(counts.items())[kept:])
    assert all(assign(fewer, first, capacity)[name] == first[name] for name in fewer), "who keeps its number stays"


def test_a_node_that_is_gone_moves_its_jobs_only() -> None:
    held = {"a": {0: 4}, "b": {1: 4}}
    found = assign({"a": 4, "b": 4}, held, {1: 4, 2: 4})
    assert found == {"b": {1: 4}, "a": {2: 4}}


def test_the_fullest_node_that_holds_it_is_taken() -> None:
    assert assign({"a": 2}, {}, {0: 8, 1: 2, 2: 3}) == {"a": {1: 2}}
    assert assign({"a": 10}, {}, {0: 8, 1: 2, 2: 3}) == {"a": {0: 8, 1: 2}}


def test_more_than_there_is_is_refused() -> None:
    with pytest.raises(ValueError, match="9 devices asked of 8"):
        assign({"a": 9}, {}, {0: 8})
