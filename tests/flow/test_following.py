"""A stream followed outside of any launch: what came is in the table, lag is told, and what cannot be followed is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from bedplate.core.clock import SimClock
from bedplate.core.errors import BedplateError, Busy, NotFound
from bedplate.data.lake import Lake
from bedplate.data.streams.log import Log
from bedplate.flow import following
from bedplate.flow.data_versions import roll_back
from bedplate.flow.following import Standing, exposition, follow
from bedplate.flow.workspace import Workspace, open_workspace

PROJECT = """
project: shop
datasets:
  clicks: {source: "log://clicks", columns: {n: int}}
  days: {source: days.csv}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "bedplate.yaml").write_text(PROJECT)
    return open_workspace(tmp_path, clock=SimClock(2e9))


def click(workspace: Workspace, *values: bytes) -> None:
    log = Log(workspace.state / "log" / "clicks", workspace.clock)
    log.append(values, producer="p", sequence=log.next_sequence("p"))


def test_what_comes_is_brought_in_at_most_once_a_second(workspace: Workspace) -> None:
    click(workspace, b'{"n": 1}', b"no")
    passes = follow(workspace, "clicks", lambda *_: None)
    assert next(passes) == Standing("clicks", 1, 1, 0, 0.0)
    begun_s = workspace.clock.now()
    click(workspace, b'{"n": 2}')
    assert next(passes) == Standing("clicks", 2, 1, 0, 0.0)
    assert workspace.clock.now() - begun_s == following.PAUSE_S
    assert Lake(workspace.state / "lake").read("clicks")["n"].sort().to_pylist() == [1, 2]


def test_lag_is_told_in_records_and_in_seconds(workspace: Workspace) -> None:
    click(workspace, b'{"n": 1}')

    def more(done: int, total: int) -> None:
        click(workspace, b'{"n": 2}', b'{"n": 3}')
        workspace.clock.sleep(3)

    passes = follow(workspace, "clicks", more)
    assert next(passes) == Standing("clicks", 1, 0, 2, 3.0)
    second = next(passes)
    assert (second.rows, second.records_behind, second.behind_s) == (3, 2, 6.0)


def test_what_cannot_be_followed_is_named(workspace: Workspace) -> None:
    with pytest.raises(NotFound, match=r"declares no such dataset.*did you mean 'clicks'"):
        next(follow(workspace, "click", lambda *_: None))
    with pytest.raises(BedplateError, match=r"not read from a stream.*bedplate run days"):
        next(follow(workspace, "days", lambda *_: None))
    with pytest.raises(NotFound, match="the stream has no records yet"):
        next(follow(workspace, "clicks", lambda *_: None))


def test_a_table_that_a_rollback_holds_is_left_alone(sales: Path) -> None:
    with open_workspace(sales) as workspace:
        roll_back(workspace, "clicks@1", "wrong")
        with pytest.raises(Busy, match="a rollback holds the table"):
            next(follow(workspace, "clicks", lambda *_: None))


def test_the_standing_as_prometheus_reads_it() -> None:
    lines = exposition(Standing("clicks", 5, 1, 2, 3.25)).splitlines()
    assert len(lines) == 12
    assert [line for line in lines if not line.startswith("#")] == [
        'bedplate_ingest_rows{dataset="clicks"} 5',
        'bedplate_ingest_quarantined_rows{dataset="clicks"} 1',
        'bedplate_ingest_lag_records{dataset="clicks"} 2',
        'bedplate_ingest_lag_seconds{dataset="clicks"} 3.25',
    ]
    assert "# TYPE bedplate_ingest_lag_seconds gauge" in lines
