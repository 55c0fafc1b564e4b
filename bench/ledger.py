"""The ledger: events a second appended and verified (each append is synced to disk), and what a ledger of a million events costs a command.

The million are made with the ledger's own rows and links, unsynced: runs with their attempts, versions of a table and of a model, runs that
a client logged. Then a process opens the ledger with its projection and asks for one thing, as every command does.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from bedplate.core.clock import SystemClock
from bedplate.core.event import Draft
from bedplate.core.ledger import Ledger
from bedplate.core.lineage import trace
from bedplate.core.projection import open_records
from bedplate.core.record import Records, fold
from bedplate.core.versions import Version
from bench.table import Row

SINGLE, BATCHES, BATCH = 500, 1000, 100
EVENTS = int(os.environ.get("BENCH_LEDGER_EVENTS", "1000000"))
REPEATS = 11


def rows() -> list[Row]:
    """One writer, one event or a hundred a transaction, the whole chain verified; then the million."""
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
        *_million(),
    ]


def drafts() -> Iterator[list[Draft]]:
    """The events of one unit of work after another: ingest, training, a logged run."""
    number = 0
    while True:
        number += 1
        ingest, fit, ref = f"rows-{number}", f"fit-{number}", f"rows@{number}"
        made = {"launch": f"up-{number // 20}", "fingerprint": f"{number:064x}", "max_restarts": 1, "why": "its inputs changed"}
        code = {"files": ["fit.py"], "snapshot": "c" * 64, "commit": "d" * 40}
        yield [
            *_run(ingest, {**made, "step": "rows", "kind": "ingest", "inputs": {}}, "rows", number, "table"),
            *_run(fit, {**made, "step": "fit", "kind": "train", "inputs": {"rows": ref}, "code": code}, "price", number, "model"),
            Draft("run.logged", f"{number:032x}", {"experiment": "1", "experiment_name": "e", "user": "u", "start_ms": 1, "name": "n"}),
            Draft("run.changed", f"{number:032x}", {"params": {"lr": "0.1"}, "metrics": {"loss": [0.5, 1, 1]}, "status": "FINISHED"}),
        ]


def _run(run: str, made: dict[str, object], output: str, number: int, kind: str) -> list[Draft]:
    version = Version(output, number, kind, f"{number:064x}", f"lake/{output}", run, 1.7e9, {"rows": number})  # type: ignore[arg-type]
    handle = {"boot_id": "b" * 36, "pid": number, "start_ticks": number, "token": "t" * 32}
    return [
        Draft("run.created", run, made),
        Draft("attempt.started", run, {"token": 1, "engine": "local", "folder": f"runs/{run}/1", "handle": handle}),
        Draft("attempt.ended", run, {"token": 1, "status": "succeeded", "failure": None, "message": ""}),
        Draft("version.created", version.ref, {"version": version.to_json()}),
        Draft("run.finished", run, {"status": "succeeded", "outputs": [version.ref], "metrics": {"rmse": 0.1}, "params": {"lr": 0.1}}),
    ]


def _million() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        with closing(Ledger(path, "bench", SystemClock())) as ledger:
            ledger._database.execute("PRAGMA synchronous=OFF")  # to be filled within a minute
            units = drafts()
            while ledger.head().seq < EVENTS:
                ledger.append([draft for _ in range(200) for draft in next(units)])
            started_s = time.perf_counter()
            open_records(ledger).release()
            made_s = time.perf_counter() - started_s
            started_s = time.perf_counter()
            truth = fold(ledger.read())
            folded_s = time.perf_counter() - started_s
            started_s = time.perf_counter()
            events = ledger.verify().seq
            verified = events / (time.perf_counter() - started_s)
        middle = len(truth.versions["price"]) // 2
        del truth
        asked: dict[str, Callable[[Records], object]] = {
            "open": lambda records: records.seq,
            "lineage of a model": lambda records: trace(records, records.version(f"price@{middle}")),
            "the newest run of a step": lambda records: records.run("fit"),
            "live runs": lambda records: records.live(),
        }
        spent = {what: _median_s(path, ask) for what, ask in asked.items()}
    opened_s = spent["open"]
    thousands = f"{EVENTS // 1000}k events"
    return [
        Row(f"ledger of {thousands}: open, by its projection", opened_s, "s", limit=0.2),
        *(
            Row(f"ledger of {thousands}: {what}, opened", spent_s - opened_s, "s", limit=0.1)
            for what, spent_s in spent.items()
            if what != "open"
        ),
        Row(f"ledger of {thousands}: audit verify", verified, "events/s", limit=200_000, higher_is_better=True),
        Row(f"ledger of {thousands}: fold of all events, as without a projection", folded_s, "s"),
        Row(f"ledger of {thousands}: projection made anew", made_s, "s"),
    ]


def _median_s(path: Path, ask: Callable[[Records], object]) -> float:
    spent = []
    for _ in range(REPEATS):
        started_s = time.perf_counter()
        with closing(Ledger(path, "bench", SystemClock())) as ledger:
            records = open_records(ledger)
            ask(records)
            spent.append(time.perf_counter() - started_s)
            records.release()
    return statistics.median(spent)
