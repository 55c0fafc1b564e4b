"""The ingest step: a file or a stream becomes a table, up to the cut that is wanted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedplate.core.clock import SystemClock
from bedplate.core.errors import DataError
from bedplate.core.versions import Version
from bedplate.data.lake import Lake
from bedplate.data.streams.log import Log
from bedplate.flow.steps.ingest import work
from flow.steps import tables
from flow.world import attempt, said

pytestmark = pytest.mark.usefixtures("clean_imports")


def test_a_file_becomes_a_table_and_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    tables.write(tmp_path)
    with (tmp_path / "visits.csv").open("a") as file:
        file.write("99,s1,never,1\n")
    made = tables.ingested(tmp_path, "visits", tables.VISITS)
    (output,) = said(made, "output")
    assert (output["name"], output["kind"], output["location"]) == ("visits", "table", "lake/visits")
    assert (output["meta"]["rows"], output["meta"]["quarantined"], len(output["meta"]["reasons"])) == (tables.ROWS, 1, 1)
    assert Lake(tmp_path / ".bedplate" / "lake").read("visits").num_rows == tables.ROWS
    assert said(made, "progress")[-1]["unit"] == "rows"


def stream(folder: Path, count: int) -> None:
    log = Log(folder / ".bedplate" / "log" / "visits", SystemClock())
    done = log.next_sequence("p")
    records = [json.dumps({"id": n, "shop": "s", "at": "2024-01-01T00:00:00Z", "size": 1.0}).encode() for n in range(done, count)]
    log.append(records, producer="p", sequence=done)


def test_a_stream_is_brought_in_up_to_its_end(tmp_path: Path) -> None:
    stream(tmp_path, 7)
    made = tables.ingested(tmp_path, "visits", {**tables.VISITS, "source": "log://visits"})
    (output,) = said(made, "output")
    assert (output["meta"]["rows"], output["meta"]["offsets"]) == (7, {"0": 7})


def test_a_stream_that_a_job_wrote_is_brought_in_up_to_where_the_job_ended(tmp_path: Path) -> None:
    stream(tmp_path, 7)
    written = Version("log://visits", 1, "stream", "d", "log/visits", "job-1", 0.0, {"offsets": {"0": 5}})
    spec = {"dataset": {**tables.VISITS, "source": "log://visits"}}
    made = attempt(tmp_path, "visits", "ingest", spec, inputs={"log://visits": {**written.to_json(), "path": "x"}})
    assert work(made) == 0
    assert said(made, "output")[0]["meta"]["rows"] == 5


def test_a_stream_that_does_not_exist_is_refused_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the stream does not exist"):
        work(attempt(tmp_path, "visits", "ingest", {"dataset": {**tables.VISITS, "source": "log://visits"}}))
    assert not (tmp_path / ".bedplate" / "log").exists()


def expecting(*expect: dict[str, object]) -> dict[str, object]:
    return {**tables.VISITS, "expect": list(expect)}


def test_what_is_found_of_expectations_is_in_the_version_without_rows(tmp_path: Path) -> None:
    tables.write(tmp_path)
    rules = expecting({"range": {"column": "size", "max": 9}, "otherwise": "warn"}, {"rows": {"min": 1}})
    (output,) = said(tables.ingested(tmp_path, "visits", rules), "output")
    warned, held = output["meta"]["expectations"]
    assert (warned["name"], warned["held"], warned["broken"], warned["rows"]) == ("size in ..9", False, tables.ROWS - 10, tables.ROWS)
    assert held["held"]
    assert "samples" not in warned


def test_an_expectation_that_stops_leaves_no_version_and_once_it_holds_the_rows_are_used(tmp_path: Path) -> None:
    tables.write(tmp_path)
    stopped = attempt(tmp_path, "visits", "ingest", {"dataset": expecting({"rows": {"min": tables.ROWS + 1}})})
    with pytest.raises(DataError, match=r"no version was accepted: expected 21\.\. rows, found 20 rows"):
        work(stopped)
    assert said(stopped, "output") == []
    lake = Lake(tmp_path / ".bedplate" / "lake")
    assert lake.read("visits").num_rows == tables.ROWS
    (output,) = said(tables.ingested(tmp_path, "visits", expecting({"rows": {"min": tables.ROWS}})), "output")
    assert output["meta"]["table_version"] == 1
    assert len(lake.history("visits")) == 2  # made, filled: nothing was written again
