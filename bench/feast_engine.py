"""The engine's side of bench/feast_store.py: one retrieval, as a JSON file says, from Parquet files to an Arrow file.

A row of a source is known at its event time: Feast has no other. Of several with one time the one that was created last counts.
Run as `python -m bench.feast_engine REQUEST`. Does not know: Feast.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bedplate.core.spec import Dataset, Feature
from bedplate.data.features import View, materialize
from bedplate.data.join import join

TIME = pa.timestamp("us", tz="UTC")
EVERYTHING = "everything"  # the entity of a view that has none


def main(request: Path) -> None:
    """Look up what the request asks for."""
    asked = json.loads(request.read_bytes())
    spine = pq.read_table(asked["spine"])
    result = spine
    for view in asked["views"]:
        with tempfile.TemporaryDirectory(dir=request.parent) as folder:
            source = _source(view)
            names = list(view["keys"])
            made = _view(view, source, Path(folder))
            rows = _keyed(spine, dict(zip(names, view["keys"].values(), strict=True)), _instants(spine[asked["at"]]))
            joined = join(rows, "_known_at", [made])
            for place, (feature, output) in enumerate(view["features"].items()):
                result = result.append_column(output, joined[f"v__c{place}"].cast(source[feature].type))
    with pa.OSFile(asked["out"], "wb") as file, pa.ipc.new_file(file, result.schema) as writer:
        writer.write_table(result)


def _source(view: Mapping[str, Any]) -> pa.Table:
    table = pq.read_table(view["source"])
    return table.rename_columns([view["mapping"].get(name, name) for name in table.column_names])


def _view(view: Mapping[str, Any], source: pa.Table, folder: Path) -> View:
    """A view with entities e0, e1, ... and columns c0, c1, ... : any name will do in Feast, and not here."""
    created = _instants(source[view["created"]]).cast(pa.int64()) if view["created"] else pa.nulls(source.num_rows, pa.int64())
    source = source.take(pc.sort_indices(created, null_placement="at_start"))  # which is stable: of one time the last row counts
    events = _keyed(source, {name: name for name in view["keys"]}, _instants(source[view["timestamp"]]))
    for place, name in enumerate(view["features"]):
        events = events.append_column(f"c{place}", source[name])
    column: Any = pa.array  # of numpy's arrays too, whatever its types say
    system = {"_partition": np.zeros(source.num_rows, np.int32), "_offset": np.arange(source.num_rows)}
    for name, values in system.items():
        events = events.append_column(name, column(values))
    entity = [name for name in events.column_names if name[0] == "e"]
    columns = [name for name in events.column_names if name[0] == "c"]
    asked = {"from": "events", "entity": entity, "columns": columns} | ({"ttl": f"{view['ttl_s']}s"} if view["ttl_s"] else {})
    dataset = Dataset(source="events.parquet", known_at="_known_at", backfill="trusted")
    return materialize("v", Feature.model_validate(asked), dataset, events, folder)


def _keyed(table: pa.Table, keys: Mapping[str, str], at: pa.ChunkedArray[Any]) -> pa.Table:
    """The entity columns by number, and the time."""
    columns: dict[str, Any] = {f"e{place}": table[name] for place, name in enumerate(keys.values())}
    return pa.table((columns or {"e0": pa.array([EVERYTHING] * table.num_rows)}) | {"_known_at": at})


def _instants(times: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """Times in microseconds, UTC; those without a zone are in UTC, as Feast has it."""
    made: pa.ChunkedArray[Any] = times.cast(pa.timestamp("us", tz=times.type.tz), safe=False).cast(TIME)
    return made


if __name__ == "__main__":
    main(Path(sys.argv[1]))
