"""Following: a stream brought into its table again and again, outside of any launch, and how far behind it is.

The rows are in the table at once, and reach other steps when a run accepts a version of it: `bedplate run NAME` then has little to do.
Does not know: how exactly-once is reached (`data.ingest`), or who looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bedplate.core.clock import Clock
from bedplate.core.errors import BedplateError, Busy, NotFound, nearest
from bedplate.core.protocols import Stream
from bedplate.core.spec import Dataset
from bedplate.data.ingest import Cut, ingest_stream
from bedplate.flow.lakes import lake_of
from bedplate.flow.streams import has_stream, stream_of
from bedplate.flow.workspace import Workspace

PAUSE_S = 1.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Standing:
    """What a table has of its stream: rows, rows in quarantine, records that it lacks, and for how long it lacked any, in seconds."""

    dataset: str
    rows: int
    quarantined: int
    records_behind: int
    behind_s: float


def follow(workspace: Workspace, name: str, progress: Progress) -> Iterator[Standing]:
    """Ingest what there is, again and again, at most once a second; gives the standing after each pass, without end.

    Raises NotFound for what is no dataset or has no stream, BedplateError for one that is no stream, and Busy while a rollback holds it.
    """
    dataset = _dataset(workspace, name)
    stream, lake = stream_of(dataset, workspace.state), lake_of(workspace)
    behind_since_s: float | None = None
    while True:
        begun_s = workspace.clock.now()
        if workspace.records.held(name) is not None:
            raise Busy("a rollback holds the table", value=name, fix=f"bedplate data release {name} --reason ...")
        cut = ingest_stream(name, dataset, stream, str(dataset.topic), lake, progress)
        records = _behind(stream, cut)
        behind_since_s = None if not records else begun_s if behind_since_s is None else behind_since_s
        now_s = workspace.clock.now()
        yield Standing(name, cut.rows, cut.quarantined, records, 0.0 if behind_since_s is None else now_s - behind_since_s)
        _pause(workspace.clock, begun_s)


def _dataset(workspace: Workspace, name: str) -> Dataset:
    datasets = workspace.project.spec.datasets
    if name not in datasets:
        raise NotFound("the project declares no such dataset", value=name, fix=nearest(name, datasets))
    dataset = datasets[name]
    if dataset.topic is None:
        raise BedplateError("the dataset is not read from a stream", value=dataset.source or "made", fix=f"bedplate run {name}")
    if not has_stream(dataset, workspace.state):
        raise NotFound("the stream has no records yet", value=dataset.source, fix="append to it first")
    return dataset


def _behind(stream: Stream, cut: Cut) -> int:
    return sum(max(0, end - cut.offsets.get(partition, 0)) for partition, end in stream.end_offsets().items())


def _pause(clock: Clock, begun_s: float) -> None:
    """Let a second pass between two commits."""
    clock.sleep(max(0.0, begun_s + PAUSE_S - clock.now()))


def exposition(standing: Standing) -> str:
    """The standing in Prometheus' text format 0.0.4."""
    label = f'{{dataset="{standing.dataset}"}}'
    return "".join(
        f"# HELP {name} {text}\n# TYPE {name} gauge\n{name}{label} {value}\n"
        for name, text, value in (
            ("bedplate_ingest_rows", "Rows of the table.", standing.rows),
            ("bedplate_ingest_quarantined_rows", "Rows that did not fit.", standing.quarantined),
            ("bedplate_ingest_lag_records", "Records of the stream that the table lacks.", standing.records_behind),
            ("bedplate_ingest_lag_seconds", "For how long it has lacked any.", round(standing.behind_s, 3)),
        )
    )
