"""Endpoints: their model, their store and what they refuse."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bedplate.core.spec import Endpoint, Model


def test_a_model_and_its_endpoint() -> None:
    model = Model.model_validate({"from": "train", "evaluate": "t.py:evaluate", "predict": "t.py:predict"})
    assert (model.promote.to, model.promote.when) == ("production", ())
    assert Endpoint(model="delay@production").port == 0
    for values in ({"model": "delay"}, {"model": "delay@7"}, {"model": "delay@production", "port": 70000}):
        with pytest.raises(ValidationError):
            Endpoint.model_validate(values)


@pytest.mark.parametrize(
    ("store", "allowed"),
    [
        ("sqlite://", True),
        ("redis://cache:6379/0", True),
        ("redis://:${REDIS_PASSWORD}@cache:6379/0", True),
        ("postgres://app:${PG_PASSWORD}@db/features", True),
        ("redis://:hunter2@cache:6379/0", False),
        ("postgres://app:${PG}x@db/features", False),
        ("mysql://db", False),
        ("redis", False),
    ],
)
def test_a_store_s_password_is_named_and_never_written(store: str, allowed: bool) -> None:
    if allowed:
        assert Endpoint(model="delay@production", store=store).store == store
    else:
        with pytest.raises(ValueError, match=r"write sqlite://|a password is not written down"):
            Endpoint(model="delay@production", store=store)


def test_an_endpoint_refuses_what_is_not_signed_unless_it_is_declared() -> None:
    assert Endpoint(model="delay@production").unsigned == "refused"
    assert Endpoint(model="delay@production", unsigned="allowed").unsigned == "allowed"
    with pytest.raises(ValidationError):
        Endpoint.model_validate({"model": "delay@production", "unsigned": True})


def test_how_much_is_answered_at_once_and_how_long_it_may_take() -> None:
    plain = Endpoint(model="delay@production")
    assert (plain.batching.size, plain.batching.delay_s, plain.deadline, plain.queue, plain.keys) == (32, 0.0, "30s", 1000, "off")
    made = Endpoint.model_validate({"model": "delay@production", "batching": {"size": 8, "delay": "2ms"}, "deadline": "250ms", "queue": 5})
    assert (made.batching.size, made.batching.delay_s, made.queue) == (8, 0.002, 5)


@pytest.mark.parametrize(
    "values", [{"batching": {"size": 0}}, {"batching": {"delay": "soon"}}, {"deadline": "0s"}, {"queue": 0}, {"keys": "sometimes"}]
)
def test_limits_that_are_none(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Endpoint.model_validate({"model": "delay@production", **values})
