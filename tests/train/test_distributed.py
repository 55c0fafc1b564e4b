import json
from pathlib import Path
from typing import Any

import pytest

from bedplate.train.distributed import Group
from train.samples import attempt_in, journal_of


def test_a_group_of_one_needs_nobody() -> None:
    group = Group(0, 1)
    assert group.agree([1, 2.5]) == [1, 2.5]
    assert group.gather(b"x") == [b"x"]
    assert group.broadcast(b"x") == b"x"
    group.part()


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_agree_gather_and_broadcast(hosts: Any, tmp_path: Path, world_size: int) -> None:
    attempt = attempt_in(tmp_path, world_size=world_size, function="talk")
    assert hosts.run(attempt) == 0
    learned = [json.loads((attempt.path / f"learned-{rank}.json").read_text()) for rank in range(world_size)]
    for rank, each in enumerate(learned):
        assert each["agreed"] == [world_size - 1, 0, 0.5]
        assert each["broadcast"] == "from 0"
        assert each["nothing"] == ""
        assert each["gathered"] == (["x" * 1000 * peer for peer in range(world_size)] if rank == 0 else [])
    assert learned[0]["empty"] == [""] * world_size
    # a metric is the mean over the ranks that logged it; none waits for one that did not
    (entry,) = journal_of(attempt, "metric")
    assert entry.body["values"] == {"only_here": 1.0, "everywhere": sum(range(world_size)) / world_size}
