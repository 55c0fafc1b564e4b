"""Residency: labels travel from data to all that is made of it, and nothing that carries one is ever outside."""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.cluster.offers import choose, price
from bedplate.core.pool import Asked, Home, Offer
from bedplate.core.spec import Policies, Residence
from bedplate.policy.residency import outside, travel
from bedplate.policy.rules import judge

EU = Residence(jurisdictions=("DE", "FR"), operators_from=("DE", "FR"))
HOMES = [Home("DE", "A", "DE"), Home("FR", "B", "US"), Home("US", "C", "US"), Home("DE", "D", ""), Home("", "E", "DE"), Home()]


def test_labels_travel_along_all_that_is_read() -> None:
    needs = {"rows": [], "public": [], "fit": ["rows"], "price": ["fit", "public"], "other": ["public"]}
    labels = travel(needs, {"rows": frozenset(["EU"])})
    assert [step for step, found in labels.items() if found] == ["rows", "fit", "price"] or labels["price"] == {"EU"}
    assert labels["other"] == labels["public"] == frozenset()


@pytest.mark.parametrize(
    ("home", "said"),
    [
        (HOMES[0], []),
        (HOMES[1], ["operator"]),
        (HOMES[2], ["residency", "operator"]),
        (HOMES[3], ["operator"]),
        (HOMES[4], ["residency"]),
        (HOMES[5], ["residency", "operator"]),
    ],
)
def test_place_and_operator_count_and_what_is_unknown_is_outside(home: Home, said: list[str]) -> None:
    found = outside(frozenset(["EU"]), home, {"EU": EU}, "cloud")
    assert [rule for rule, _ in found] == said
    assert all(why.startswith("cloud: EU data") for _, why in found)


def test_a_label_without_a_rule_and_data_without_a_label_go_anywhere() -> None:
    assert outside(frozenset(["UK"]), Home(), {"EU": EU}, "cloud") == []
    assert outside(frozenset(), Home(), {"EU": EU}, "cloud") == []


def allowed(home: Home, labels: frozenset[str], rules: dict[str, Residence]) -> bool:
    """The rule, written once more."""
    for label in labels:
        rule = rules.get(label)
        if rule and rule.jurisdictions and home.jurisdiction not in rule.jurisdictions:
            return False
        if rule and rule.operators_from and home.operator_home not in rule.operators_from:
            return False
    return True


@given(st.integers(0, 10**9))
def test_in_a_random_world_no_offer_failover_or_store_is_outside(seed: int) -> None:
    check_world(seed)


def check_world(seed: int) -> None:
    """Random graphs of steps, labels, rules, pools and stores; pools are taken away one by one, as by preemption and failure."""
    draw = random.Random(seed)
    countries = ["DE", "FR", "US", ""]
    some = lambda: tuple(draw.sample(countries[:3], draw.randint(0, 2)))  # noqa: E731 - a draw
    pairs = {label: (some(), some()) for label in ("EU", "health")}
    rules = {label: Residence(jurisdictions=where, operators_from=who) for label, (where, who) in pairs.items() if where or who}
    names = [f"s{number}" for number in range(draw.randint(1, 8))]
    needs = {name: draw.sample(names[:place], draw.randint(0, place)) for place, name in enumerate(names)}
    own = {name: frozenset(draw.sample(["EU", "health", "none"], draw.randint(0, 2))) for name in names}
    labels = travel(needs, own)
    homes = {f"p{number}": Home(draw.choice(countries), "x", draw.choice(countries)) for number in range(5)}
    offers = [Offer(name, "sim", "on_demand", draw.randint(0, 9), "USD", 1, 8, 10**10, home=home) for name, home in homes.items()]
    for step in names:
        stores = tuple(
            (f"s3://{number}", Home(draw.choice(countries), "x", draw.choice(countries))) for number in range(draw.randint(0, 1))
        )
        asked = Asked(step, work_s=60.0, labels=labels[step], stores=stores)
        there = list(offers)
        while there:
            decision = choose(asked, judge(asked, price(asked, there), Policies(residency=rules)))
            kept = [each for each in (decision.chosen, *decision.failover) if each]
            for each in kept:
                assert allowed(each.offer.home, labels[step], rules), (step, each)
                assert all(allowed(home, labels[step], rules) for _, home in stores)
            fits = [each for each in there if allowed(each.home, labels[step], rules)]
            if all(allowed(home, labels[step], rules) for _, home in stores):
                assert len(kept) == len(fits), "what is allowed is not refused either"
            if decision.chosen is None:
                break
            there.remove(decision.chosen.offer)


if __name__ == "__main__":  # python tests/policy/test_residency.py 0 10000
    first, count = map(int, sys.argv[1:])
    for number in range(first, first + count):
        check_world(number)
    print(f"seeds {first} to {first + count - 1}: nothing was outside")
