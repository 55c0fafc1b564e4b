"""How many replicas are wanted: by work, by latency, by idleness, by schedule; and that the number does not swing."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from bedplate.core.spec import Scale
from bedplate.serve.autoscale import Load, wanted

NOON_S = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()  # a Monday


def scale(**values: object) -> Scale:
    return Scale.model_validate({"min": 0, "max": 8, "target": {"in_flight": 4}, "idle": "5m", "settle": "1m", **values})


def load(in_flight: float, replicas: int = 1, p99_s: float | None = None, ago_s: float | None = 0.0) -> Load:
    return Load(in_flight, p99_s, None if ago_s is None else NOON_S - ago_s, replicas)


def count(declared: Scale, seen: Load, now_s: float = NOON_S) -> int:
    return wanted(declared, seen, (), now_s).replicas


def test_work_under_way_sets_the_number() -> None:
    assert [count(scale(), load(work)) for work in (0.5, 4, 4.3, 5, 12, 400)] == [1, 1, 1, 2, 3, 8]
    assert wanted(scale(), load(12), (), NOON_S).why == "12 requests under way, 4 to a replica"
    assert wanted(scale(), load(400), (), NOON_S).why.endswith("no more than max")


def test_nothing_is_left_after_the_idle_time_where_that_is_declared() -> None:
    assert count(scale(), load(0, ago_s=299)) == 1
    assert count(scale(), load(0, ago_s=301)) == 0
    assert count(scale(), load(0, ago_s=None)) == 0
    assert count(scale(min=2), load(0, ago_s=None)) == 2
    assert count(scale(), load(1, replicas=0, ago_s=301)) == 1, "what is held is answered"


def test_answers_that_are_too_slow_ask_for_more_at_most_doubled() -> None:
    slow = scale(target={"in_flight": 4, "p99": "100ms"})
    assert count(slow, load(3, replicas=2, p99_s=0.15)) == 3
    assert count(slow, load(3, replicas=2, p99_s=9.0)) == 4
    assert count(slow, load(3, replicas=2, p99_s=0.09)) == 1
    assert count(slow, load(1, replicas=2, p99_s=9.0)) == 1, "replicas that do nothing do not help"
    assert "more than 100ms" in wanted(slow, load(3, replicas=2, p99_s=0.15), (), NOON_S).why


def test_a_schedule_warms_before_anybody_asks() -> None:
    warm = scale(warm=[{"at": "11:55", "for": "10m", "replicas": 3}, {"at": "sun 12:00", "for": "1h", "replicas": 5}])
    assert count(warm, load(0, ago_s=None)) == 3
    assert count(warm, load(0, ago_s=None), NOON_S + 301) == 0
    assert count(warm, load(0, ago_s=None), NOON_S - 86400 + 600) == 5
    assert wanted(warm, load(0, ago_s=None), (), NOON_S).why == "warm for what is to come"


def test_fewer_are_wanted_only_when_nothing_within_the_settling_time_wanted_more() -> None:
    first = wanted(scale(), load(16, 4), (), NOON_S)
    assert first.replicas == 4
    calm = wanted(scale(), load(1, 4), first.past, NOON_S + 59)
    assert (calm.replicas, calm.why) == (4, "1 would do (1 requests under way, 4 to a replica); 4 were wanted within 1m")
    assert wanted(scale(), load(1, 4), calm.past, NOON_S + 61).replicas == 1


works = st.lists(st.tuples(st.floats(0, 200), st.floats(0.1, 90), st.none() | st.floats(0.001, 5)), min_size=1, max_size=60)


@given(works, st.integers(0, 3), st.integers(3, 8))
def test_the_number_stays_within_bounds_and_never_falls_below_what_the_settling_time_wanted(
    seen: list[tuple[float, float, float | None]], least: int, most: int
) -> None:
    declared = scale(min=least, max=most, target={"in_flight": 4, "p99": "500ms"})
    past: tuple[tuple[float, int], ...] = ()
    now_s, replicas, asked_s = NOON_S, least, NOON_S
    needed: list[tuple[float, int]] = []
    for in_flight, span_s, p99_s in seen:
        now_s += span_s
        asked_s = now_s if in_flight else asked_s
        seen_now = Load(in_flight, p99_s, asked_s, replicas)
        needed.append((now_s, count(declared, seen_now, now_s)))
        found = wanted(declared, seen_now, past, now_s)
        past, replicas = found.past, found.replicas
        assert least <= replicas <= most
        assert replicas == max(number for at_s, number in needed if now_s - at_s < declared.settle_s), "the most of the window, no more"
        assert len(past) <= most + 1, "what is kept is bounded"
