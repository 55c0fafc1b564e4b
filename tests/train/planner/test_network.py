"""Collectives: inside a domain fast, across domains by the network shares of all ranks that sit in one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.hardware.catalog.reader import device
from bedplate.train.planner.efficiency import Software
from bedplate.train.planner.layout import Cluster
from bedplate.train.planner.network import all_to_all_s, gather_s, rate, send_s

SOFT = Software(scale_up=1.0, scale_out=1.0, latency_s=0.0)
CLUSTER = Cluster(device("H100-SXM"), 64)


def test_a_ring_inside_a_domain_has_the_fast_link() -> None:
    assert rate(CLUSTER, SOFT, 8, 1) == 450e9
    assert rate(CLUSTER, SOFT, 4, 2) == 450e9


def test_a_ring_across_domains_has_the_network_of_all_its_ranks_there() -> None:
    assert rate(CLUSTER, SOFT, 64, 1) == 8 * 50e9
    assert rate(CLUSTER, SOFT, 8, 8) == 50e9
    assert rate(CLUSTER, SOFT, 16, 4) == 2 * 50e9


def test_a_gather_moves_all_but_ones_own_part() -> None:
    assert gather_s(CLUSTER, SOFT, 8, 1, 450e9) == pytest.approx(7 / 8)
    assert gather_s(CLUSTER, SOFT, 1, 1, 450e9) == 0.0


def test_latency_grows_with_the_doublings_of_ranks() -> None:
    slow = Software(scale_up=1.0, scale_out=1.0, latency_s=1.0)
    assert gather_s(CLUSTER, slow, 8, 1, 0.0) == 3.0


def test_sending_across_domains_takes_the_network() -> None:
    assert send_s(CLUSTER, SOFT, 1, 450e9) == 1.0
    assert send_s(CLUSTER, SOFT, 8, 50e9) == 1.0


def test_all_to_all_across_domains_is_slower() -> None:
    near, far = all_to_all_s(CLUSTER, SOFT, 8, 1, 1e9), all_to_all_s(CLUSTER, SOFT, 16, 1, 1e9)
    assert near == pytest.approx(1e9 * 7 / 8 / 450e9)
    assert far == pytest.approx(1e9 * 8 / 16 / 50e9)
    assert all_to_all_s(CLUSTER, SOFT, 1, 1, 1e9) == 0.0


RANKS = st.sampled_from([2, 4, 8, 16, 32, 64])


@settings(deadline=None)
@given(RANKS, st.sampled_from([1, 2, 4, 8, 16]), st.floats(1, 1e12), st.floats(1, 1e12))
def test_more_bytes_never_arrive_sooner_and_no_ring_exceeds_the_fast_link(ranks: int, stride: int, size: float, more: float) -> None:
    assert rate(CLUSTER, SOFT, ranks, stride) <= 450e9
    for took in (gather_s, all_to_all_s):
        assert took(CLUSTER, SOFT, ranks, stride, size) <= took(CLUSTER, SOFT, ranks, stride, size + more)
    assert gather_s(CLUSTER, SOFT, ranks, stride, size) >= size * (ranks - 1) / ranks / 450e9 * (1 - 1e-9)
    assert send_s(CLUSTER, SOFT, stride, size) >= size / 450e9


@settings(deadline=None)
@given(RANKS, st.sampled_from([1, 2, 4]), st.floats(1e3, 1e12))
def test_ranks_that_sit_closer_are_never_slower(ranks: int, stride: int, size: float) -> None:
    for took in (gather_s, all_to_all_s):
        assert took(CLUSTER, SOFT, ranks, stride, size) <= took(CLUSTER, SOFT, ranks, 2 * stride, size) * (1 + 1e-9)


def test_links_of_which_half_is_reached_take_twice_as_long() -> None:
    half = Software(scale_up=0.5, scale_out=0.5, latency_s=0.0)
    for ranks, stride in ((8, 1), (64, 1), (8, 8)):
        for took in (gather_s, all_to_all_s):
            assert took(CLUSTER, half, ranks, stride, 1e9) == pytest.approx(2 * took(CLUSTER, SOFT, ranks, stride, 1e9))
    assert send_s(CLUSTER, half, 8, 1e9) == pytest.approx(2e9 / 50e9)
