"""When a rollout goes on, goes back, or waits: by what the new version was seen to do, and by time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bedplate.core.spec import Rollout
from bedplate.serve.rollout import Seen, Stage, advanced, begun


def rollout(**values: object) -> Rollout:
    return Rollout.model_validate({"every": "2m", "rollback": {"error_rate": "1%", "p99": "200ms"}, **values})


FINE = Seen(requests=500, errors=1, p99_s=0.1)


def test_a_canary_goes_through_its_steps_one_after_the_other() -> None:
    stage, shares = begun(rollout(), 0.0), []
    for now_s in (0, 119, 121, 200, 242, 300, 363, 900):
        stage = advanced(rollout(), stage, FINE, now_s)
        shares.append(stage.share(rollout()))
    assert shares == [0.05, 0.05, 0.25, 0.25, 1.0, 1.0, 1.0, 1.0]
    assert (stage.outcome, stage.why) == ("done", "500 requests, 1 errors")
    assert Stage(**stage.to_json()) == stage


def test_errors_take_it_back_at_once_when_they_are_certain() -> None:
    start = begun(rollout(), 0.0)
    assert advanced(rollout(), start, Seen(3, 1, 0.1), 1.0).outcome == "back"
    assert advanced(rollout(), start, Seen(100, 1, 0.1), 1.0) == start, "one of a hundred is no verdict"
    assert advanced(rollout(), start, Seen(1000, 30, 0.1), 1.0).outcome == "back"
    back = advanced(rollout(), start, Seen(10, 10, 0.1), 1.0)
    assert (back.share(rollout()), back.why) == (0.0, "10 of 10 requests failed, more than 1%")
    assert advanced(rollout(), back, FINE, 1e6) == back, "what is decided stays"


def test_slow_answers_take_it_back_once_enough_were_seen() -> None:
    start = begun(rollout(), 0.0)
    assert advanced(rollout(), start, Seen(19, 0, 0.3), 1.0) == start
    assert advanced(rollout(), start, Seen(20, 0, 0.3), 1.0).why == "the slowest percent takes 0.3 s, more than 200ms"
    patient = rollout(rollback={"error_rate": "1%"})
    assert advanced(patient, start, Seen(20, 0, 30.0), 1.0) == start


def test_a_step_that_saw_too_little_waits_ten_times_as_long() -> None:
    start = begun(rollout(), 0.0)
    assert advanced(rollout(), start, Seen(19, 0, 0.1), 1199.0) == start
    assert advanced(rollout(), start, Seen(19, 0, 0.1), 1201.0).why == "19 requests, 0 errors, after 10 times 2m"


def test_a_shadow_answers_nothing_before_it_answers_everything_and_blue_green_everything_at_once() -> None:
    shadow, both = rollout(kind="shadow", steps=["50%", "100%"]), rollout(kind="blue-green")
    stage = begun(shadow, 0.0)
    assert [stage.share(shadow), advanced(shadow, stage, FINE, 121.0).share(shadow)] == [0.0, 0.0]
    assert advanced(shadow, Stage(1, 121.0), FINE, 242.0).share(shadow) == 1.0
    stage = begun(both, 0.0)
    assert stage.share(both) == 1.0
    assert advanced(both, stage, FINE, 121.0).outcome == "done"


@given(st.lists(st.tuples(st.integers(0, 2000), st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 5000)), max_size=40))
def test_steps_only_go_forward_and_an_end_is_an_end(seen: list[tuple[int, float, float, float]]) -> None:
    declared, now_s = rollout(), 0.0
    stage = begun(declared, now_s)
    for requests, failed, p99_s, span_s in seen:
        now_s += span_s
        after = advanced(declared, stage, Seen(requests, int(requests * failed), p99_s), now_s)
        assert stage.outcome == "open" or after == stage
        assert after.step - stage.step in (0, 1)
        assert after.outcome != "done" or stage.step == len(declared.shares) - 1
        assert 0.0 <= after.share(declared) <= 1.0
        stage = after
