from hypothesis import given
from hypothesis import strategies as st

from bedplate.cluster.queue.room import Room

DEVICES = st.lists(st.lists(st.sampled_from([0, 250, 500, 1000]), min_size=1, max_size=4), min_size=1, max_size=4)


def test_a_part_goes_onto_the_tightest_device_and_whole_ones_onto_the_fullest_node() -> None:
    room = Room([[1000, 1000], [1000, 400], [700]])
    assert room.place(1, 300) == ((1, (1,)),)
    assert room.place(1, 500) == ((2, (0,)),)
    assert room.place(1, 1000) == ((1, (0,)),)
    assert room.place(1, 2000) == ((0, (0, 1)),)
    assert room.place(1, 1000) == ()


def test_what_does_not_fit_whole_takes_nothing() -> None:
    room = Room([[1000, 1000], [1000]])
    assert room.place(4, 1000) == () and room.place(2, 2000) == () and room.place(7, 500) == ()
    assert room.free == [[1000, 1000], [1000]]


@given(DEVICES, st.integers(1, 4), st.sampled_from([250, 500, 1000, 2000]))
def test_what_is_placed_was_free_and_comes_back(free: list[list[int]], workers: int, milli: int) -> None:
    room = Room(free)
    places = room.place(workers, milli)
    taken = sum(map(sum, free)) - sum(map(sum, room.free))
    assert taken == (workers * milli if places else 0)
    assert all(left >= 0 for devices in room.free for left in devices)
    room.give(places, milli)
    assert room.free == free


@given(DEVICES, st.lists(st.sampled_from([250, 500, 1000, 2000]), max_size=12))
def test_a_worker_fits_when_some_node_holds_it(free: list[list[int]], asked: list[int]) -> None:
    room = Room(free)
    for milli in asked:
        whole = max(1, milli // 1000)
        holds = any(sum(left >= min(milli, 1000) for left in devices) >= whole for devices in room.free)
        assert bool(room.place(1, milli)) is holds


@given(DEVICES, st.integers(1, 3), st.sampled_from([250, 500, 1000]))
def test_a_copy_changes_apart(free: list[list[int]], workers: int, milli: int) -> None:
    room = Room(free)
    other = room.copy()
    found = other.place(workers, milli)
    assert room.free == free
    assert room.place(workers, milli) == found and room.free == other.free
