"""The rules pass: every reason why an offer may not be chosen, and what is left out for a shadow price."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bedplate.core.pool import Asked, Home, Judged, Offer
from bedplate.core.spec import Policies, Residence
from bedplate.policy.rules import judge

OFFER = Offer("cloud", "sim", "on_demand", 2_000_000, "USD", 4, 8, 10**10, device_model="NVIDIA H100", image="shop:1")
PRICED = Judged(OFFER, 2_000_000, 0, 1, 0.0, 3600.0, 500.0)
ASKED = Asked("fit", work_s=3600.0, devices=1)


def refusals(policies: Policies, priced: Judged = PRICED, asked: Asked = ASKED, left: int | None = None, without: tuple[str, ...] = ()):  # type: ignore[no-untyped-def] # of a test
    (judged,) = judge(asked, [priced], policies, left, without)
    return dict(judged.refused)


@pytest.mark.parametrize(
    ("policies", "rule", "said"),
    [
        (Policies(pools=("desk",)), "pools", "allowed pools are desk"),
        (Policies(images=("base",)), "images", "image shop:1 is not allowed"),
        (Policies(accelerators=("A100",)), "accelerators", "accelerator NVIDIA H100 is not allowed"),
        (Policies(carbon=400), "carbon", "500 g of CO2, at most 400 g"),
    ],
)
def test_each_rule_says_why(policies: Policies, rule: str, said: str) -> None:
    assert refusals(policies) == {rule: said}
    assert refusals(policies, without=(rule,)) == {}


@pytest.mark.parametrize(
    "policies", [Policies(), Policies(pools=("cloud",)), Policies(images=("SHOP",)), Policies(accelerators=("h100",)), Policies(carbon=501)]
)
def test_what_a_rule_allows_is_left_alone(policies: Policies) -> None:
    assert refusals(policies) == {}


def test_what_is_not_known_is_not_safe() -> None:
    assert "unknown amount" in refusals(Policies(carbon=400), replace(PRICED, carbon_g=None))["carbon"]
    assert "image unknown" in refusals(Policies(images=("base",)), replace(PRICED, offer=replace(OFFER, image="")))["images"]
    asked = replace(ASKED, deadline_s=3600.0)
    assert "not known" in refusals(Policies(), replace(PRICED, ends_s=None), asked)["deadline"]


def test_a_deadline_is_of_waiting_and_work() -> None:
    asked = replace(ASKED, deadline_s=3600.0)
    assert refusals(Policies(), PRICED, asked) == {}
    assert "asked for within" in refusals(Policies(), replace(PRICED, ends_s=3601.0), asked)["deadline"]


def test_accelerators_are_asked_of_those_who_want_one() -> None:
    assert refusals(Policies(accelerators=("A100",)), asked=replace(ASKED, devices=0)) == {}


def test_a_budget_has_to_pay_for_it_and_a_spent_one_pays_for_nothing() -> None:
    assert refusals(Policies(), left=2_000_000) == {}
    assert refusals(Policies(), left=1_999_999)["budget"] == "costs 2.00 USD, 2.00 USD are left"
    unknown = replace(PRICED, cost_micros=None)
    assert refusals(Policies(), unknown, left=1) == {}
    assert refusals(Policies(), unknown, left=0)["budget"] == "the budget is spent"


def test_stores_are_held_against_residency_too() -> None:
    policies = Policies(residency={"EU": Residence(jurisdictions=("DE",))})
    here = replace(PRICED, offer=replace(OFFER, home=Home("DE")))
    asked = replace(ASKED, labels=frozenset(["EU"]), stores=(("s3://far", Home("US")),))
    assert "its store s3://far" in refusals(policies, here, asked)["residency"]
    assert refusals(policies, here, replace(asked, stores=())) == {}
    assert set(refusals(policies, PRICED, replace(asked, stores=()))) == {"residency"}


def test_refusals_of_before_are_kept() -> None:
    assert refusals(Policies(), replace(PRICED, refused=(("capacity", "too small"),))) == {"capacity": "too small"}
