"""Events a second that an online store takes in while they stream, by kind of feature: into SQLite, a thousand events at a time.

Each event is put into its entity's packed row, in one transaction with the offsets that say it is applied. The store begins with
100,000 events of 1,000 entities. No peer does all of this; bars are absolute where there are any.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bedplate.core.spec import Dataset, Feature
from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.online.build import build_below
from bedplate.data.online.store import OnlineStore
from bench.table import Row

ENTITIES, BEFORE, STREAMED, TOGETHER = 1_000, 100_000, 10_000, 1_000
SECOND_US = 1_000_000
DATASET = Dataset(source="log://events", known_at="at", backfill="trusted")
KINDS: Mapping[str, Mapping[str, Any]] = {
    "as of a time": {"columns": ["x", "n"]},
    "count, sum, mean": {"windows": ["1h", "1d"], "aggregates": {"x": ["count", "sum", "mean"]}},
    "min, max, last": {"windows": ["1h", "1d"], "aggregates": {"x": ["min", "max", "last"]}},
    "distinct": {"windows": ["1h", "1d"], "aggregates": {"n": ["distinct"]}},
    "decayed": {"half_lives": ["1h"], "aggregates": {"x": ["decayed_sum", "decayed_mean"]}},
}


def rows() -> list[Row]:
    """Events a second of the wall's time, with the spread over batches."""
    return [_row(what, feature) for what, feature in KINDS.items()]


def _row(what: str, declared: Mapping[str, Any]) -> Row:
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="bedplate-streaming-") as folder:
        engine = SqliteEngine.create(Path(folder) / "online.db")
        feature = Feature.model_validate({"from": "events", "entity": "id", **declared})
        build_below(engine, "bench:", {"v": feature}, {"events": (DATASET, _events(draw, 0, BEFORE))}, lambda *_: None, 0)
        store = OnlineStore(engine, "bench:")
        seconds = []
        for first in range(BEFORE, BEFORE + STREAMED, TOGETHER):
            events = _events(draw, first, TOGETHER)
            begun = time.perf_counter()
            applied = store.apply("events", events, 0)
            seconds.append(time.perf_counter() - begun)
            if applied != TOGETHER:
                raise RuntimeError(f"{applied} of {TOGETHER} events were applied")
        store.close()
    rates = [TOGETHER / each for each in seconds]
    return Row(f"stream into SQLite: {what}", STREAMED / sum(seconds), "events/s", f"{min(rates):.0f} to {max(rates):.0f}")


def _events(draw: np.random.Generator, first: int, count: int) -> pa.Table:
    places = first + np.arange(count)
    at = np.datetime64("2024-01-01", "us").astype(np.int64) + places * SECOND_US
    return pa.table(
        {
            "id": draw.integers(0, ENTITIES, count),
            "_known_at": pa.array(at, pa.timestamp("us", tz="UTC")),
            "_partition": np.zeros(count, np.int32),
            "_offset": places,
            "x": draw.random(count),
            "n": draw.integers(0, 50, count),
        }
    )
