"""The job step: what a function is given, what it may write, and what becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bedplate.core.attempt import Attempt
from bedplate.core.clock import SystemClock
from bedplate.core.errors import JobError
from bedplate.data.streams.log import Log
from bedplate.flow.steps.context import StepContext
from bedplate.flow.steps.job import JobRun, OutputStream, checked_params, work
from flow.world import attempt, said

pytestmark = pytest.mark.usefixtures("clean_imports")

CODE = """
def produce(run, rows=5, **rest):
    stream = run.stream("visits")
    wanted = [str(number).encode() for number in range(rows)]
    for start in range(stream.written, len(wanted), 2):
        stream.append(wanted[start : start + 2])
        run.progress(stream.written, rows, "records")
        if rest.get("stop_at") == stream.written:
            raise RuntimeError("killed here")
    (run.root / "rows.csv").write_text("id")
    (run.out / "own.txt").write_text(run.params["note"])
    run.log(rows=rows)

def forgets(run): ...
"""


def job(folder: Path, function: str = "produce", outputs: tuple[str, ...] = ("log://visits", "rows.csv"), **params: Any) -> Attempt:
    (folder / "user_job.py").write_text(CODE)
    spec = {"function": f"user_job.py:{function}", "params": params, "outputs": list(outputs)}
    return attempt(folder, function, "job", spec)


def test_a_function_writes_streams_files_progress_and_metrics(tmp_path: Path) -> None:
    made = job(tmp_path, rows=5, note="hello")
    assert work(made) == 0
    stream, file = said(made, "output")
    assert (stream["name"], stream["kind"], stream["meta"]) == ("log://visits", "stream", {"offsets": {"0": 5}, "rows": 5})
    assert (file["name"], file["kind"], file["location"]) == ("rows.csv", "file", "rows.csv")
    assert (made.out / "own.txt").read_text() == "hello"
    assert said(made, "metric") == [{"step": 0, "values": {"rows": 5.0}}]
    assert said(made, "progress")[0]["unit"] == "records"


def test_a_job_that_begins_again_goes_on_where_its_stream_ended(tmp_path: Path) -> None:
    made = job(tmp_path, rows=5, note="x", stop_at=4)
    with pytest.raises(RuntimeError, match="killed here"):
        work(made)
    made.spec["params"].pop("stop_at")
    assert work(made) == 0
    log = Log(tmp_path / ".bedplate" / "log" / "visits", SystemClock())
    assert [record.value for record in log.read(0, 0, 10)] == [b"0", b"1", b"2", b"3", b"4"], "each once"


def test_two_jobs_number_their_records_apart(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", SystemClock())
    one, two = OutputStream(log, "one"), OutputStream(log, "two")
    one.append([b"a", b"b"])
    assert (one.written, two.written) == (2, 0)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["log://visits"], r"did not write a stream that it declared \(got 'log://visits'\).*append to run.stream"),
        (["rows.csv"], r"did not write a file that it declared \(got 'rows.csv'\)"),
        (["."], r"did not write a file that it declared"),
    ],
)
def test_a_declared_output_that_was_not_written_is_an_error(tmp_path: Path, outputs: list[str], message: str) -> None:
    made = job(tmp_path, "forgets", tuple(outputs))
    with pytest.raises(JobError, match=message):
        work(made)
    assert said(made, "output") == []


def test_only_declared_streams_can_be_written(tmp_path: Path) -> None:
    run = JobRun(StepContext(job(tmp_path)))
    with pytest.raises(JobError, match="did you mean 'log://visits'"):
        run.stream("visit")
    assert not (tmp_path / ".bedplate" / "log").exists()


def test_parameters_are_those_of_the_function() -> None:
    def fit(run: object, lr: float = 0.1) -> None: ...

    def anything(run: object, **params: object) -> None: ...

    assert checked_params(fit, {"lr": 1.0}) == {"lr": 1.0}
    assert checked_params(anything, {"x": 1}) == {"x": 1}
    with pytest.raises(JobError, match=r"the function takes no such parameter \(got 'lrr'\). Fix: did you mean 'lr'"):
        checked_params(fit, {"lrr": 1.0})
