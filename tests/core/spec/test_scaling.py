"""What may be declared of replicas and rollouts, and what it means."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from bedplate.core.spec import Endpoint, Rollout, Scale, Warm


def endpoint(**values: Any) -> Endpoint:
    return Endpoint.model_validate({"model": "delay@production", **values})


def test_an_endpoint_without_them_has_no_router() -> None:
    assert not endpoint().routed
    assert [endpoint(replicas=1).routed, endpoint(scale={}).routed, endpoint(rollout={}).routed] == [True] * 3
    fixed = endpoint(replicas=3).scaling
    assert (fixed.min, fixed.max) == (3, 3)
    assert (endpoint(rollout={}).scaling.min, endpoint(rollout={}).scaling.max) == (1, 1)
    assert endpoint(scale={"max": 6}).scaling.max == 6


def test_durations_and_shares_are_read() -> None:
    scale = Scale.model_validate({"idle": "5m", "settle": "30s", "target": {"in_flight": 2, "p99": "250ms"}})
    assert (scale.idle_s, scale.settle_s, scale.target.p99_s) == (300.0, 30.0, 0.25)
    rollout = Rollout.model_validate({"steps": ["5%", "12.5%", "100%"], "every": "2m", "rollback": {"error_rate": "0.5%", "p99": "1s"}})
    assert rollout.shares == pytest.approx((0.05, 0.125, 1.0))
    assert (rollout.every_s, rollout.rollback.error_share, rollout.rollback.p99_s) == (120.0, 0.005, 1.0)
    assert Rollout(kind="shadow").shares == (0.0, 0.0, 0.0)
    assert Rollout(kind="blue-green").shares == (1.0,)
    assert Rollout().rollback.p99_s is None
    assert Scale().target.p99_s is None


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"replicas": 2, "scale": {}}, "replicas and scale both say"),
        ({"replicas": 0}, "greater than or equal to 1"),
        ({"scale": {"min": 5, "max": 4}}, "less than the 5"),
        ({"scale": {"max": 2, "warm": [{"at": "06:30", "for": "1h", "replicas": 3}]}}, "less than the 3"),
        ({"scale": {"idle": "soon"}}, "soon"),
        ({"scale": {"target": {"p99": "fast"}}}, "fast"),
        ({"scale": {"target": {"in_flight": 0}}}, "greater than 0"),
        ({"scale": {"warm": [{"at": "25:00", "for": "1h"}]}}, "should match pattern"),
        ({"rollout": {"steps": ["25%", "5%"]}}, "shares that rise"),
        ({"rollout": {"steps": ["5"]}}, "write a percentage"),
        ({"rollout": {"steps": ["101%"]}}, "write a percentage"),
        ({"rollout": {"steps": []}}, "at least 1"),
        ({"rollout": {"kind": "sudden"}}, "canary"),
        ({"rollout": {"rollback": {"error_rate": "often"}}}, "write a percentage"),
        ({"rollout": {"every": "-1s"}}, "-1s"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(values: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        endpoint(**values)


@pytest.mark.parametrize(
    ("at", "span", "day", "hour", "minute", "holds"),
    [
        ("06:30", "2h", 2, 6, 29, False),
        ("06:30", "2h", 2, 6, 30, True),
        ("06:30", "2h", 2, 8, 29, True),
        ("06:30", "2h", 2, 8, 30, False),
        ("23:00", "2h", 2, 0, 30, True),
        ("mon 06:30", "2h", 2, 7, 0, True),
        ("mon 06:30", "2h", 3, 7, 0, False),
        ("sun 23:00", "4h", 2, 2, 59, True),
        ("sun 23:00", "4h", 2, 3, 0, False),
        ("mon 06:30", "7d", 2, 6, 29, True),
    ],
)
def test_a_warm_time_holds_from_its_beginning_for_its_length(at: str, span: str, day: int, hour: int, minute: int, *, holds: bool) -> None:
    warm = Warm.model_validate({"at": at, "for": span})
    assert warm.holds(datetime(2026, 3, day, hour, minute, tzinfo=UTC)) is holds  # the 2nd of March 2026 is a Monday
