"""NUMA nodes, as the kernel tells of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.hardware.topology import NumaNode, numa_nodes, parse_list
from hardware.trees import NUMA, tree


def test_nodes_with_their_cores_and_memory(tmp_path: Path) -> None:
    first, second = numa_nodes(tree(tmp_path, NUMA))
    assert first == NumaNode(0, (0, 1, 2, 3, 8, 9, 10, 11), 64 << 20)
    assert (second.number, second.cores, second.memory_bytes) == (1, (4, 5, 6, 7), 32 << 20)


def test_a_kernel_that_tells_of_none(tmp_path: Path) -> None:
    assert numa_nodes(tmp_path) == ()


def test_this_machine_has_its_cores_in_some_node() -> None:
    cores = [core for node in numa_nodes() for core in node.cores]
    assert len(cores) == len(set(cores))


@pytest.mark.parametrize(("text", "cores"), [("0\n", (0,)), ("", ()), ("1-2,5", (1, 2, 5)), ("0-0", (0,))])
def test_lists_of_the_kernel(text: str, cores: tuple[int, ...]) -> None:
    assert parse_list(text) == cores
