"""The bill: what is charged, idle and shared adds up to it, to the micro-unit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bedplate.policy.bill import Rate, Use, bill, lines_of

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def use(run: str = "fit-1", pool: str = "desk", start_ms: int = 0, end_ms: int = HOUR_MS, share: int = 1_000_000, **more: object) -> Use:
    return Use(run=run, project="shop", user="ann", model="price", pool=pool, start_ms=start_ms, end_ms=end_ms, share=share, **more)  # type: ignore[arg-type] # of a test


USES = st.lists(
    st.builds(
        lambda run, pool, start, length, share, lost: use(
            f"r{run}", f"p{pool}", start, start + length, share, lost_ms=lost, watts=300.0, g_kwh=400.0
        ),
        st.integers(0, 4),
        st.integers(0, 2),
        st.integers(0, 3 * DAY_MS),
        st.integers(0, 2 * DAY_MS),
        st.integers(1, 1_000_000),
        st.integers(0, DAY_MS),
    ),
    max_size=12,
)
RATES = st.dictionaries(st.sampled_from(["p0", "p1", "p2"]), st.builds(Rate, st.integers(0, 10**9), st.booleans()), max_size=3)


@given(USES, RATES, st.integers(0, 10**9))
def test_charges_idle_and_shared_are_the_bill_by_every_axis(uses: list[Use], rates: dict[str, Rate], shared: int) -> None:
    kept = bill(uses, rates, shared)
    assert kept.charged_micros + kept.idle_micros + kept.shared_micros == kept.total_micros
    assert min(kept.charged_micros, kept.idle_micros) >= 0
    for axis in ("run", "project", "model", "user", "day", "pool"):
        assert sum(line.micros for line in kept.by[axis].values()) == kept.charged_micros, axis
        assert all(0 <= line.lost_micros <= line.micros for line in kept.by[axis].values())


def test_what_is_held_costs_from_the_first_use_to_the_last_and_what_nobody_used_is_idle() -> None:
    kept = bill([use(), use("fit-2", start_ms=3 * HOUR_MS, end_ms=4 * HOUR_MS)], {"desk": Rate(10_000_000, held=True)})
    assert (kept.total_micros, kept.charged_micros, kept.idle_by_pool) == (40_000_000, 20_000_000, {"desk": 20_000_000})


def test_what_is_rented_costs_while_something_runs() -> None:
    kept = bill([use(), use("fit-2", start_ms=3 * HOUR_MS, end_ms=4 * HOUR_MS)], {"desk": Rate(10_000_000, held=False)})
    assert (kept.total_micros, kept.idle_micros) == (20_000_000, 0)


def test_half_a_machine_is_half_the_price_and_half_of_a_held_one_stands_idle() -> None:
    half = use(share=500_000)
    assert bill([half], {"desk": Rate(10_000_000, held=False)}).total_micros == 5_000_000
    kept = bill([half], {"desk": Rate(10_000_000, held=True)})
    assert (kept.charged_micros, kept.idle_micros) == (5_000_000, 5_000_000)


def test_steps_that_share_a_machine_do_not_make_it_dearer() -> None:
    kept = bill([use("a"), use("b"), use("c")], {"desk": Rate(10_000_000, held=True)})
    assert (kept.total_micros, kept.idle_micros) == (10_000_000, 0)
    assert sorted(line.micros for line in kept.by["run"].values()) == [3_333_333, 3_333_333, 3_333_334]


def test_energy_carbon_and_lost_work_are_counted() -> None:
    kept = bill([use(watts=500.0, g_kwh=400.0, lost_ms=HOUR_MS // 2)], {"desk": Rate(8_000_000, held=False)})
    line = kept.by["model"]["price"]
    assert (line.kwh, line.carbon_g, line.lost_micros, line.busy_s, line.estimated) == (0.5, 200.0, 4_000_000, 3600.0, True)
    measured = bill([use(measured_j=3.6e6, g_kwh=100.0)], {}).by["run"]["fit-1"]
    assert (measured.kwh, measured.carbon_g, measured.estimated, measured.micros) == (1.0, 100.0, False, 0)


def test_a_grid_that_is_not_known_makes_the_sum_unknown() -> None:
    kept = bill([use(watts=500.0, g_kwh=400.0), use("fit-2", watts=500.0)], {})
    assert kept.by["project"]["shop"].carbon_g is None
    assert kept.by["run"]["fit-1"].carbon_g == 200.0


def test_a_use_over_midnight_is_on_both_days() -> None:
    kept = bill([use(start_ms=DAY_MS - HOUR_MS, end_ms=DAY_MS + 3 * HOUR_MS)], {"desk": Rate(1_000_000, held=False)})
    assert {day: line.micros for day, line in kept.by["day"].items()} == {"1970-01-01": 1_000_000, "1970-01-02": 3_000_000}


def test_the_dearest_comes_first() -> None:
    kept = bill([use("cheap"), use("dear", start_ms=0, end_ms=2 * HOUR_MS)], {"desk": Rate(1_000_000, held=False)})
    assert [name for name, _ in lines_of(kept, "run")] == ["dear", "cheap"]
    assert bill([], {}).total_micros == 0
