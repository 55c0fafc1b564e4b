"""Point-in-time joins from files on disk to a table: beside DuckDB's own ASOF join, Feast with its DuckDB store and Feast's file store.

A million rows of a spine take the latest values known by then of 10 million events, and of 1 million. All read the same Parquet files,
each run is a process of its own, and the runs of all sides alternate. What we do includes making the view of the events, which orders
them; a view is made once for all spines, so the join alone is shown as well. Time is the wall's from the first read to the finished
table, without the start of Python and imports; memory is the peak of the whole process. Feast's rows that do not come back are counted.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.peers import python_of
from bench.table import Row

FEAST = ("feast[duckdb,redis]==0.67.0",)
SPINE_ROWS = 1_000_000
EVENTS = {"10M events": 10_000_000, "1M events": 1_000_000}
ENTITIES = 100_000
DAYS = 90
RUNS = 5
FEAST_RUNS = 2  # it takes a minute and a half
ASOF_BAR, FEAST_DUCKDB_BAR, FEAST_FILE_BAR, FEAST_MEMORY_BAR = 1.5, 1 / 4, 1 / 50, 1.0
SMALL_BAR_S = 1.5
DASK_LIMIT_S = 1800

MEASURED = """
import json, sys, time
from pathlib import Path
folder, events = Path(sys.argv[1]), sys.argv[2]

def told(rows, checked, **seconds):
    memory_mb = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024  # getrusage tells a parent's as well
    print(json.dumps({"rows": rows, "sum": checked, "cpu_s": time.process_time() - cpu_s, "memory_mb": memory_mb, **seconds}))
"""

OURS = (
    MEASURED
    + """
import tempfile
import pyarrow.compute as pc, pyarrow.dataset as pads
from bedplate.core.spec import Dataset, Feature
from bedplate.data.features import columns_of, materialize
from bedplate.data.join import join
from bedplate.data.scan import read

cpu_s, begun = time.process_time(), time.perf_counter()
feature = Feature.model_validate({"from": "events", "entity": "entity", "columns": ["amount", "bags"]})
with tempfile.TemporaryDirectory(dir=folder) as view:
    dataset = Dataset(source="events.parquet", known_at="_known_at", backfill="trusted")
    made = materialize("v", feature, dataset, read(pads.dataset(folder / events), columns_of(feature, dataset)), Path(view))
    middle, middle_cpu_s = time.perf_counter(), time.process_time()
    spine = pads.dataset(folder / "spine.parquet")
    result = join(read(spine, spine.schema.names), "_known_at", [made])
    ended, join_cpu_s = time.perf_counter(), time.process_time() - middle_cpu_s
told(result.num_rows, pc.sum(result.column("v__bags")).as_py(), total_s=ended - begun, join_s=ended - middle, join_cpu_s=join_cpu_s)
"""
)

ASOF = (
    MEASURED
    + """
import duckdb, pyarrow.compute as pc

cpu_s, begun = time.process_time(), time.perf_counter()
result = duckdb.connect().sql(
    f"select s.*, e.amount, e.bags from '{folder}/spine.parquet' s asof left join '{folder}/{events}' e "
    "on s.entity = e.entity and s._known_at >= e._known_at").to_arrow_table()
ended = time.perf_counter()
told(result.num_rows, pc.sum(result.column("bags")).as_py(), total_s=ended - begun)
"""
)

PEER = (
    MEASURED
    + """
import logging, warnings
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
from datetime import timedelta
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, Int64

kind, place = sys.argv[3], sys.argv[4]
config = RepoConfig(project="bench", registry=f"{place}/registry.db", provider="local", offline_store={"type": kind},
                    online_store={"type": "sqlite", "path": f"{place}/online.db"}, entity_key_serialization_version=3)
store = FeatureStore(config=config)
entity = Entity(name="entity", join_keys=["entity"], value_type=ValueType.INT64)
view = FeatureView(name="v", entities=[entity], ttl=timedelta(days=3650), online=False,
                   schema=[Field(name="amount", dtype=Float64), Field(name="bags", dtype=Int64)],
                   source=FileSource(path=str(folder / events), timestamp_field="_known_at"))
store.apply([entity, view])
cpu_s, begun = time.process_time(), time.perf_counter()
spine = pd.read_parquet(folder / "spine.parquet", columns=["entity", "_known_at", "row"])
spine = spine.rename(columns={"_known_at": "event_timestamp"})
found = store.get_historical_features(entity_df=spine, features=["v:amount", "v:bags"]).to_df()
ended = time.perf_counter()
told(len(found), int(found["bags"].sum()), total_s=ended - begun)
"""
)


def rows() -> list[Row]:
    """Wall time and peak memory of each join."""
    feast = python_of("feast", FEAST)
    with tempfile.TemporaryDirectory(prefix="bedplate-features-join-") as name:
        folder = Path(name)
        _write(folder / "spine.parquet", SPINE_ROWS, 1)
        result: list[Row] = []
        for place, (what, count) in enumerate(EVENTS.items()):
            _write(folder / f"{count}.parquet", count, place + 2)
            sides = {
                "ours": (Path(sys.executable), OURS, ()),
                "DuckDB ASOF": (Path(sys.executable), ASOF, ()),
                "Feast, DuckDB": (feast, PEER, ("duckdb",)),
            }
            runs: dict[str, list[Mapping[str, float]]] = {side: [] for side in sides}
            for number in range(RUNS):
                for side, (python, code, arguments) in sides.items():
                    if number < FEAST_RUNS or not side.startswith("Feast"):
                        runs[side].append(_run(python, code, folder, f"{count}.parquet", arguments))
            result += _rows(what, runs)
            if what == "1M events":
                result += _file_store(what, runs["ours"], _run(feast, PEER, folder, f"{count}.parquet", ("file",)))
            (folder / f"{count}.parquet").unlink()
    return result


def _write(path: Path, count: int, seed: int) -> None:
    """Rows of entities, in order of what happened; a tenth become known late, by an hour in the mean."""
    draw = np.random.default_rng(seed)
    happened = np.datetime64("2024-01-01", "us").astype(np.int64) + np.sort(draw.integers(0, DAYS * 86_400_000_000, count))
    late = (draw.exponential(3_600_000_000, count) * (draw.random(count) < 0.1)).astype(np.int64)
    columns = {
        "entity": draw.integers(0, ENTITIES, count),
        "_known_at": pa.array(happened + late, pa.timestamp("us", tz="UTC")),
        "_partition": np.zeros(count, np.int32),
        "_offset": np.arange(count),
        "row": np.arange(count),
        "amount": draw.random(count),
        "bags": draw.integers(0, 100, count),
    }
    names = [name for name in columns if name not in (("amount", "bags") if path.name == "spine.parquet" else ("row",))]
    pq.write_table(pa.table({name: columns[name] for name in names}), path)


def _run(python: Path, code: str, folder: Path, events: str, arguments: Sequence[str]) -> Mapping[str, float]:
    """What one process tells of its join."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        extra = (*arguments, place) if arguments else ()
        command = [str(python), "-c", code, str(folder), events, *extra]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DASK_LIMIT_S, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        found: Mapping[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found


def _rows(what: str, runs: Mapping[str, Sequence[Mapping[str, float]]]) -> list[Row]:
    ours, asof = runs["ours"], runs["DuckDB ASOF"]
    sums = {(side, run["rows"], run["sum"]) for side in ("ours", "DuckDB ASOF") for run in runs[side]}
    if len({found[1:] for found in sums}) != 1:
        raise RuntimeError(f"the joins do not agree: {sums}")
    bars = {"DuckDB ASOF": ASOF_BAR, "Feast, DuckDB": FEAST_DUCKDB_BAR} if what == "10M events" else {}
    memory_bars = {"Feast, DuckDB": FEAST_MEMORY_BAR} if what == "10M events" else {}
    name = f"join 1M rows with {what}"
    result = []
    for peer in ("DuckDB ASOF", "Feast, DuckDB"):
        result += [
            _row(f"{name}, view made", ours, "total_s", "s", runs[peer], peer, bars.get(peer)),
            _row(f"{name}, view there", ours, "join_s", "s", runs[peer], peer, None),
            _row(f"{name}, peak memory", ours, "memory_mb", "MB", runs[peer], peer, memory_bars.get(peer)),
        ]
    for part, field in {"view made": "cpu_s", "view there": "join_cpu_s"}.items():
        result.append(_row(f"{name}, {part}, processor time", ours, field, "s", asof, "DuckDB ASOF", None, "cpu_s"))
    return result


def _row(
    what: str,
    ours: Sequence[Mapping[str, float]],
    field: str,
    unit: str,
    peers: Sequence[Mapping[str, float]],
    peer: str,
    limit: float | None,
    whole: str = "total_s",
) -> Row:
    """Medians of a field; a peer that has no such field is compared by its `whole`."""
    mine = [run[field] for run in ours]
    theirs = statistics.median(run.get(field, run[whole]) for run in peers)
    return Row(what, statistics.median(mine), unit, f"{min(mine):.3g} to {max(mine):.3g}", theirs, peer, limit)


def _file_store(what: str, ours: Sequence[Mapping[str, float]], peer: Mapping[str, float]) -> list[Row]:
    """Feast's default store, one run: it takes minutes."""
    name = f"join 1M rows with {what}"
    lost = SPINE_ROWS - peer["rows"]
    seconds = [run["total_s"] for run in ours]
    return [
        Row(f"{name}, view made", statistics.median(seconds), "s", f"{min(seconds):.3g} to {max(seconds):.3g}", limit=SMALL_BAR_S),
        _row(f"{name}, view made", ours, "total_s", "s", [peer], "Feast, file store", FEAST_FILE_BAR),
        _row(f"{name}, peak memory", ours, "memory_mb", "MB", [peer], "Feast, file store", None),
        Row(f"{name}, rows lost", SPINE_ROWS - ours[0]["rows"], "rows", "", lost, "Feast, file store"),
    ]
