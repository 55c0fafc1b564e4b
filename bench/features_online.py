"""Online reads of 20 features, one entity and 100 at once, beside Feast: SQLite on both sides, then Redis on both sides, one server.

Feast serves values that it was given; so do we (an as-of view), with the same bar, and beside it windows that we compute as they are asked
for (mean, sum, count, min and max of 4 columns, from the events of 7 days), which Feast cannot.
Each side's loop runs in a process of its own, and the rounds of both alternate.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.peers import python_of
from bench.table import Row

TESTS = Path(__file__).parents[1] / "tests"
FEAST = ("feast[duckdb,redis]==0.67.0",)
ROUNDS = 10
CALLS = {"one": 300, "hundred": 30}
BAR = 0.25

LOOP = """
import json, random, sys, time

ENTITIES = 1000
def values(entity):
    draw = random.Random(entity)
    return [draw.random() for _ in range(20)]

def serve(read):
    draw = random.Random(7)
    print("ready", flush=True)
    for line in sys.stdin:
        size, calls = json.loads(line)
        spent = []
        for _ in range(calls):
            ids = [draw.randrange(ENTITIES) for _ in range(size)]
            begun = time.perf_counter()
            found = read(ids)
            spent.append(time.perf_counter() - begun)
            if CHECKED:
                assert [row["f7"] for row in found] == [values(i)[7] for i in ids]
        print(json.dumps(spent), flush=True)
"""

OURS = (
    """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
import numpy as np, pyarrow as pa
from bedplate.core.spec import Dataset, Feature
from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.online.build import build_below
from bedplate.data.online.open import open_engine
from bedplate.data.online.store import Asked, OnlineStore
"""
    + LOOP
    + """
kind, address = sys.argv[1:]
CHECKED = kind == "plain"
START = datetime(2024, 1, 1, tzinfo=UTC)
if address.startswith("sqlite://"):
    SqliteEngine.create(Path(address.removeprefix("sqlite://"))).close()
engine = open_engine(address)
EVENTS = 1 if kind == "plain" else 500  # of an entity
ids = np.repeat(np.arange(ENTITIES), EVENTS)
at = np.datetime64("2024-01-01T00:00:00", "us") + np.tile(np.arange(EVENTS) * 1_200_000_000, ENTITIES)
rows = np.array([values(entity) for entity in range(ENTITIES)]).repeat(EVENTS, axis=0)
columns = {f"f{n}": rows[:, n] for n in range(20)}
table = pa.table({"id": ids, "_known_at": pa.array(at, pa.timestamp("us", tz="UTC")), "_partition": np.zeros(len(ids), int),
                  "_offset": np.arange(len(ids)), **columns})
feature = {"from": "events", "entity": "id", "columns": list(columns)}
if kind == "windows":
    asked = ["count", "sum", "mean"]
    feature = {"from": "events", "entity": "id", "windows": ["6h", "7d"], "aggregates": {f"f{n}": asked for n in range(4)}}
    feature["aggregates"]["f3"] = ["count"]
dataset = Dataset(source="log://events", known_at="at", backfill="trusted")
build_below(engine, f"bench:{kind}:", {"v": Feature.model_validate(feature)}, {"events": (dataset, table)}, lambda *_: None, 2**62)
store = OnlineStore(engine, f"bench:{kind}:")
now = START + timedelta(minutes=20 * EVENTS, seconds=1)
assert len(store.contents.views["v"].columns) == 20

def read(ids):
    found = store.read([Asked("v", {"id": entity}, now) for entity in ids])
    return [{name[3:]: value for name, value in row.items()} for row in found] if CHECKED else found

serve(read)
"""
)

PEER = (
    """
import logging, sys, warnings
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
from datetime import datetime, timedelta, timezone
from pathlib import Path
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64
"""
    + LOOP
    + """
CHECKED = True
folder, online = Path(sys.argv[1]), json.loads(sys.argv[2])
now = datetime.now(timezone.utc)
frame = pd.DataFrame([[i, now, *values(i)] for i in range(ENTITIES)], columns=["id", "at", *(f"f{n}" for n in range(20))])
frame.to_parquet(folder / "rows.parquet")
config = RepoConfig(project="bench", registry=str(folder / "registry.db"), provider="local", online_store=online,
                    offline_store={"type": "file"}, entity_key_serialization_version=3)
store = FeatureStore(config=config)
entity = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
view = FeatureView(name="v", entities=[entity], ttl=timedelta(days=3), schema=[Field(name=f"f{n}", dtype=Float64) for n in range(20)],
                   source=FileSource(path=str(folder / "rows.parquet"), timestamp_field="at"), online=True)
store.apply([entity, view])
store.write_to_online_store("v", frame)
names = [f"v:f{n}" for n in range(20)]

def read(ids):
    found = store.get_online_features(features=names, entity_rows=[{"id": i} for i in ids]).to_dict()
    return [dict(zip(found, row)) for row in zip(*found.values())]

serve(read)
"""
)


def rows() -> list[Row]:
    """p99 of each size and database."""
    sys.path.insert(0, str(TESTS))
    from servers.testbed.databases import redis

    peer_python = python_of("feast", FEAST)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        server = stack.enter_context(redis())
        feast_redis = {"type": "redis", "connection_string": f"127.0.0.1:{server.port},password={server.password}"}
        made = []
        for name, address, online in (
            ("SQLite", f"sqlite://{folder}/", {"type": "sqlite", "path": f"{folder}/feast.db"}),
            ("Redis", server.url, feast_redis),
        ):
            addresses = {kind: address + (f"{kind}.db" if name == "SQLite" else "") for kind in ("plain", "windows")}
            repository = Path(folder) / name
            repository.mkdir()
            sides = {kind: stack.enter_context(_Side(Path(sys.executable), OURS, [kind, addresses[kind]])) for kind in addresses}
            sides["feast"] = stack.enter_context(_Side(peer_python, PEER, [str(repository), json.dumps(online)]))
            made += _compared(name, sides)
        return made


def _compared(name: str, sides: Mapping[str, _Side]) -> list[Row]:
    made = []
    for size, count in (("one", 1), ("hundred", 100)):
        spent: dict[str, list[list[float]]] = {side: [] for side in sides}
        for side in sides:
            sides[side].round(count, CALLS[size] // 3)  # to warm up
        for _ in range(ROUNDS):
            for side, process in sides.items():
                spent[side].append(process.round(count, CALLS[size]))
        what = "one entity" if count == 1 else f"{count} entities"
        for side, label, limit in (("plain", "20 values", BAR), ("windows", "20 windowed features", None)):
            ours, peer = spent[side], spent["feast"]
            medians = f"p50 {_ms(ours, 50):.3g} against {_ms(peer, 50):.3g}"
            made.append(Row(f"online read, {name}, {what}, {label}: p99", _ms(ours, 99), "ms", medians, _ms(peer, 99), "feast", limit))
    return made


def _ms(rounds: Sequence[Sequence[float]], percent: int) -> float:
    """The median over rounds of a percentile, in milliseconds."""
    return statistics.median(sorted(spent)[min(len(spent) - 1, len(spent) * percent // 100)] for spent in rounds) * 1e3


class _Side:
    """A process that reads when it is told to and says how long each call took."""

    def __init__(self, python: Path, script: str, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen([python, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._line("ready")

    def round(self, size: int, calls: int) -> list[float]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([size, calls]) + "\n")
        self._process.stdin.flush()
        return json.loads(self._line("["))

    def _line(self, start: str) -> str:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith(start):
                return line
        raise RuntimeError(f"the process ended: {self._process.wait()}")

    def __enter__(self) -> _Side:
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.kill()
        self._process.wait()
