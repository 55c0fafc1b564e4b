"""Packing: nothing is given twice, what is kept between pods is what would be computed anew, and whole accelerators stay whole."""

from __future__ import annotations

import copy
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.cluster.packing import WHOLE, Mix, Nodes, Packer, Rule, Shape, Spot, fragmentation, pack, unallocated

RULES: tuple[Rule, ...] = ("first_fit", "best_fit", "least_fragmentation")
SHAPES = (
    Shape(1000, 4096),
    Shape(2000, 8192, 1, 250),
    Shape(2000, 8192, 1, 600),
    Shape(4000, 16384, 1, WHOLE),
    Shape(8000, 32768, 2, WHOLE),
    Shape(32000, 131072, 4, WHOLE),
)


def cluster(*devices: int, cpu_milli: int = 32_000, memory_mib: int = 131_072) -> Nodes:
    """Nodes with so many accelerators each."""
    shares = np.zeros((len(devices), max(devices, default=0)), np.int64)
    for node, count in enumerate(devices):
        shares[node, :count] = WHOLE
    return Nodes(np.full(len(devices), cpu_milli), np.full(len(devices), memory_mib), shares)


def even(*shapes: Shape) -> Mix:
    return Mix.of(Counter(shapes))


@pytest.mark.parametrize("rule", RULES)
def test_a_pod_goes_where_it_fits_and_nowhere_when_it_does_not(rule: Rule) -> None:
    packer = Packer(cluster(0, 2), rule, even(*SHAPES))
    assert packer.place(Shape(4000, 16384, 2, WHOLE)) == Spot(1, (0, 1))
    assert packer.place(Shape(1000, 1024, 1, 100)) is None
    assert packer.place(Shape(40_000, 1024)) is None
    assert packer.place(Shape(1000, 1024)) is not None


@pytest.mark.parametrize("rule", RULES)
def test_what_is_released_can_be_given_again(rule: Rule) -> None:
    packer = Packer(cluster(4), rule, even(*SHAPES))
    whole = Shape(32_000, 131_072, 4, WHOLE)
    spot = packer.place(whole)
    assert spot is not None
    assert packer.place(whole) is None
    packer.release(whole, spot)
    assert packer.place(whole) == spot


def test_a_share_goes_onto_a_device_that_is_shared_already() -> None:
    mix = even(Shape(1000, 1024, 1, 500), Shape(4000, 4096, 2, WHOLE))
    packer = Packer(cluster(2, 2), "least_fragmentation", mix)
    first, second = packer.place(Shape(1000, 1024, 1, 500)), packer.place(Shape(1000, 1024, 1, 500))
    assert first is not None
    assert first == second
    assert packer.place(Shape(4000, 4096, 2, WHOLE)) is not None, "the other node is whole"


def test_fragmentation_is_what_the_usual_pods_cannot_use() -> None:
    nodes = cluster(2, 2, 2)
    nodes.shares[1] = [300, 700]
    nodes.cpu_milli[2] = 100
    mix = Mix.of({Shape(1000, 1024, 1, 500): 3, Shape(1000, 1024): 1})
    wasted = fragmentation(nodes.cpu_milli, nodes.memory_mib, nodes.shares, mix)
    assert wasted.tolist() == pytest.approx([0.25 * 2000, 0.75 * 300 + 0.25 * 1000, 2000])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), rule=st.sampled_from(RULES))
def test_nothing_is_given_twice_and_kept_scores_are_true(seed: int, rule: Rule) -> None:
    drawn = random.Random(seed)
    nodes = cluster(*(drawn.choice([0, 1, 2, 4]) for _ in range(8)))
    mix = even(*SHAPES)
    packer, living = Packer(nodes, rule, mix), []
    for _ in range(60):
        if living and drawn.random() < 0.3:
            packer.release(*living.pop(drawn.randrange(len(living))))
            continue
        shape = drawn.choice(SHAPES)
        afresh = copy.deepcopy(packer)
        afresh._scores.clear()
        expected = afresh.place(shape)
        spot = packer.place(shape)
        assert spot == expected
        if spot is not None:
            living.append((shape, spot))
        assert nodes.cpu_milli.min() >= 0
        assert nodes.memory_mib.min() >= 0
        assert nodes.shares.min() >= 0
    for shape, spot in living:
        packer.release(shape, spot)
    assert nodes.cpu_milli.tolist() == [32_000] * 8
    assert set(np.unique(nodes.shares)) <= {0, WHOLE}


def test_no_more_is_left_over_than_by_the_other_rules() -> None:
    """The full comparison, on a public trace, is the bench `packing`."""
    left = Counter[str]()
    for seed in range(4):
        drawn = random.Random(seed)
        pods = [drawn.choices(SHAPES, weights=[1, 4, 4, 6, 2, 1])[0] for _ in range(900)]
        for rule in RULES:
            nodes = cluster(*[4] * 40, *[2] * 40)
            placed = pack(Packer(nodes, rule, Mix.of(Counter(pods))), pods)
            assert 0 < placed < len(pods)
            left[rule] += unallocated(nodes, 240 * WHOLE)
    assert left["least_fragmentation"] <= min(left["first_fit"], left["best_fit"])
