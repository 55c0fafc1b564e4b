"""`pools.yaml`: what may be declared, what is refused with its line, and the offers that come of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.errors import SpecError
from bedplate.core.money import micros
from bedplate.core.pool import Offer
from bedplate.core.pools_file import PoolsFile, carbon_of, offers_of, own_hour_micros, read_pools

FILE = """\
currency: EUR
stores:
  s3://eu-bucket: {jurisdiction: DE, operator: Hoster, operator_home: DE}
pools:
  desk: {engine: local, own: {capital: 8766, years: 1, kwh_price: 0.3, source: invoice, at: 2026-01-05}, watts: 1000, carbon: 380, pue: 1.5}
  cloud:
    engine: sky
    region: eu-west-1
    capacity: {machines: 8, quota: 4, cores: 16, memory_gb: 64, accelerators: 2, accelerator: H100}
    price: {on_demand: 4.5, spot: 1.5, spot_stays: 6, spot_away: 2, source: list price, at: 2026-11-01}
    carbon: grid.csv
"""
GRID = "g_kwh\n" + "".join(f"{hour}\n" for hour in range(100, 124))


def declared(folder: Path, text: str = FILE, grid: str = GRID) -> PoolsFile:
    (folder / "pools.yaml").write_text(text)
    (folder / "grid.csv").write_text(grid)
    return read_pools(folder / "pools.yaml")


def offered(folder: Path, name: str) -> list[Offer]:
    file = declared(folder)
    pool = file.pools[name]
    capacity = pool.capacity or read_pools(folder / "pools.yaml").pools["cloud"].capacity
    assert capacity is not None
    return list(offers_of(name, pool, capacity, file.currency, carbon_of(pool, folder)))


def test_a_rented_pool_has_an_offer_on_demand_and_one_as_spot(tmp_path: Path) -> None:
    demand, spot = offered(tmp_path, "cloud")
    assert (demand.terms, demand.hour_micros, demand.there_s) == ("on_demand", 4_500_000, 0)
    assert (spot.terms, spot.hour_micros, spot.there_s, spot.away_s) == ("spot", 1_500_000, 6 * 3600, 2 * 3600)
    assert (spot.machines, spot.cores, spot.memory_bytes, spot.devices, spot.device_model) == (4, 16, 64 * 10**9, 2, "H100")
    assert (spot.source, spot.priced_at, spot.currency) == ("list price", "2026-11-01", "EUR")
    assert spot.carbon_g_kwh == tuple(range(100, 124))


def test_an_hour_of_one_s_own_is_capital_over_its_years_and_power_with_cooling(tmp_path: Path) -> None:
    (own,) = offered(tmp_path, "desk")
    assert own.terms == "own"
    assert own.hour_micros == micros(1 + 1.5 * 0.3)
    desk = declared(tmp_path).pools["desk"]
    assert desk.own is not None
    assert own_hour_micros(desk.own, watts=0, pue=1) == micros(1)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("region: eu-west-1", "regoin: eu-west-1", ["pools.yaml:8", "unknown field", "region"]),
        ("    region: eu-west-1\n", "", ["engine sky needs `region`"]),
        ("spot_stays: 6", "spot_stays: 0", ["pools.yaml:10", "spot_stays", "greater than 0"]),
        ("source: list price, ", "", ["a required field is missing", "add `source:`"]),
        ("engine: sky", "engine: skye", ["pools.yaml:7", "skye"]),
        ("pue: 1.5", "pue: 0.5", ["pools.yaml:5", "0.5"]),
        ("carbon: 380", "carbon: -1", ["not negative"]),
        ("carbon: grid.csv", "carbon: ../grid.csv", ["the grid's carbon cannot be read", "24 rows"]),
        ("carbon: grid.csv", "carbon: nowhere.csv", ["the grid's carbon cannot be read", "nowhere.csv"]),
        ("currency: EUR", "currency: euro", ["pools.yaml:1", "currency", "euro"]),
        ("watts: 1000, ", "price: {on_demand: 1, source: x, at: 2026-01-01}, ", ["not both"]),
        ("on_demand: 4.5, spot: 1.5, ", "", ["give `on_demand`, `spot`, or both"]),
        ("    capacity: {machines: 8, quota: 4, cores: 16, memory_gb: 64, accelerators: 2, accelerator: H100}\n", "", ["give `capacity`"]),
    ],
)
def test_what_is_wrong_is_named_with_file_line_value_and_fix(tmp_path: Path, old: str, new: str, said: list[str]) -> None:
    assert old in FILE
    with pytest.raises(SpecError) as caught:
        declared(tmp_path, FILE.replace(old, new))
    for part in said:
        assert part in caught.value.one_line()


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "a b", "a;true", "", "$(true)"])
def test_a_host_is_a_name_and_never_an_option_or_a_command(tmp_path: Path, host: str) -> None:
    path = tmp_path / "pools.yaml"
    path.write_text(f"pools: {{lab: {{engine: ssh, hosts: [gpu1, {host!r}], capacity: {{machines: 2}}}}}}\n")
    with pytest.raises(SpecError, match="not one of `hosts`"):
        read_pools(path)


def test_hosts_are_names_with_users_ports_and_addresses(tmp_path: Path) -> None:
    path = tmp_path / "pools.yaml"
    path.write_text("pools: {lab: {engine: ssh, hosts: [gpu1, ann@gpu2.lab, 10.0.0.7], capacity: {machines: 3}}}\n")
    assert read_pools(path).pools["lab"].hosts == ("gpu1", "ann@gpu2.lab", "10.0.0.7")


@pytest.mark.parametrize("grid", ["", "g_kwh\n1\n", GRID.replace("105", "-5"), GRID.replace("g_kwh", "grams"), GRID.replace("110", "x")])
def test_a_grid_has_24_hours(tmp_path: Path, grid: str) -> None:
    with pytest.raises(SpecError, match="the grid's carbon cannot be read"):
        declared(tmp_path, grid=grid)


def test_a_place_that_says_nothing_is_unknown(tmp_path: Path) -> None:
    file = declared(tmp_path)
    assert file.pools["cloud"].home.jurisdiction == ""
    assert file.stores["s3://eu-bucket"].home.operator_home == "DE"
    assert carbon_of(file.pools["desk"], tmp_path) == (380.0,)
