"""`bedplate pools`, `pools refresh`, `cost`, and the offers below a plan, as a person types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.kit import HELLO, HELLO_CODE, as_json, bedplate, refused

POOLS = """\
prices_from: prices.json
pools:
  desk:
    engine: local
    capacity: {cores: 4, memory_gb: 8}
    price: {on_demand: 36, source: contract, at: 2026-01-01}
    watts: 1000
    carbon: 400
    jurisdiction: DE
    operator: Shop
    operator_home: DE
  cloud:
    engine: sky
    region: us
    jurisdiction: US
    capacity: {machines: 2, cores: 64, memory_gb: 64}
    price: {on_demand: 3.0, spot: 1.0, source: list, at: 2026-11-01}
  server: {engine: ssh, hosts: [a], capacity: {cores: 8}, own: {capital: 9000, years: 4, kwh_price: 0.3, source: offer, at: 2026-01-01}}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "bedplate.yaml").write_text(HELLO)
    (tmp_path / "hello.py").write_text(HELLO_CODE)
    (tmp_path / "pools.yaml").write_text(POOLS)
    return tmp_path


def test_pools_lists_this_machine_and_what_is_declared(project: Path) -> None:
    said = bedplate(project, "pools").stdout
    assert "desk    local" in said and "36.00 USD" in said and "Shop (DE)" in said and "400" in said
    assert "sky (not there yet)" in said and "2026-11-01, list" in said
    values = as_json(project, "pools")
    assert values["machine"]["cores"] >= 1
    assert [(each["pool"], each["terms"]) for each in values["offers"]] == [
        ("desk", "on_demand"),
        ("cloud", "on_demand"),
        ("cloud", "spot"),
        ("server", "own"),
    ]
    (project / "pools.yaml").unlink()
    assert [each["pool"] for each in as_json(project, "pools")["offers"]] == ["local"]


def test_a_refresh_says_what_changed(project: Path) -> None:
    (project / "prices.json").write_text('{"cloud": {"on_demand": 2.5, "source": "list", "at": "2026-11-20"}}')
    assert "cloud: on_demand 3.0 -> 2.5" in bedplate(project, "pools", "refresh").stdout
    assert as_json(project, "pools", "refresh") == {}
    (project / "prices.json").write_text("{}")
    assert "no price changed" in bedplate(project, "pools", "refresh").stdout


def test_a_plan_shows_every_offer_and_what_a_rule_costs(project: Path) -> None:
    (project / "bedplate.yaml").write_text(HELLO + "policies: {pools: [desk]}\n")
    said = bedplate(project, "plan", "--without", "pools").stdout
    assert "hello: where it may run" in said
    assert "pools: allowed pools are desk" in said
    assert "without pools: hello would run in server (own) instead of desk (on_demand)" in said
    values = as_json(project, "plan", "--without", "pools")
    assert values["offers"]["hello"]["chosen"] == "desk"
    assert {each["word"] if "word" in each else each["why"] for each in values["offers"]["hello"]["offers"]} >= {"chosen"}
    assert values["shadow"][0]["step"] == "hello"
    assert "every step would run where it does now" in bedplate(project, "plan", "--without", "carbon").stdout
    assert "--without takes a rule of `policies`" in bedplate(project, "plan", "--without", "gravity").stderr
    (project / "pools.yaml").unlink()
    (project / "bedplate.yaml").write_text(HELLO)
    assert "offers" not in as_json(project, "plan")


def test_the_bill_adds_up_and_says_what_is_an_estimate(project: Path) -> None:
    assert "nothing ran yet" in bedplate(project, "cost").stdout
    assert bedplate(project, "run", "hello").returncode == 0
    values = as_json(project, "cost", "--by", "run")
    assert values["total_micros"] == values["charged_micros"] + values["idle_micros"] + values["shared_micros"] > 0
    assert values["lines"]["hello-1"]["micros"] == values["charged_micros"]
    said = bedplate(project, "cost", "--by", "day").stdout
    assert "g CO2" in said and "~" in said and "the bill" in said
    assert as_json(project, "cost", "--by", "user")["by"] == "user"
    assert "Invalid value" in bedplate(project, "cost", "--by", "moon").stderr


def test_rent_or_buy_compares_what_is_declared(project: Path) -> None:
    assert bedplate(project, "run", "hello").returncode == 0
    said = bedplate(project, "cost", "--rent-or-buy").stdout
    assert "own is cheaper from" in said
    assert {(each["own"], each["rented"]) for each in as_json(project, "cost", "--rent-or-buy")} == {
        ("server", "desk"),
        ("server", "cloud"),
    }
    (project / "pools.yaml").unlink()
    assert "there is nothing to compare" in refused(project, "cost", "--rent-or-buy")
