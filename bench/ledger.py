"""The ledger: events a second appended and verified. Each append is synced to disk (synchronous=FULL)."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bedplate.core.clock import SystemClock
from bedplate.core.event import Draft
from bedplate.core.ledger import Ledger
from bench.table import Row

SINGLE, BATCHES, BATCH = 500, 1000, 100


def rows() -> list[Row]:
    """One writer, one event or a hundred a transaction, then the whole chain verified."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.db", "bench", SystemClock())
        draft = Draft("attempt.started", "run-1", {"token": 1, "body": "x" * 150})
        started_s = time.perf_counter()
        for _ in range(SINGLE):
            ledger.append([draft])
        single = SINGLE / (time.perf_counter() - started_s)
        started_s = time.perf_counter()
        for _ in range(BATCHES):
            ledger.append([draft] * BATCH)
        batched = BATCHES * BATCH / (time.perf_counter() - started_s)
        started_s = time.perf_counter()
        events = ledger.verify().seq
        verified = events / (time.perf_counter() - started_s)
        ledger.close()
    return [
        Row("ledger: one event a transaction", single, "events/s"),
        Row("ledger: 100 events a transaction", batched, "events/s"),
        Row("ledger: audit verify", verified, "events/s"),
    ]
