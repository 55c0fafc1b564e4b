"""Runs all benches and prints the table. `python -m bench startup ledger` runs some, `python -m bench --list` names them."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bench import flights, startup
from bench.table import Row, text

EXAMPLE = Path(__file__).parents[1] / "examples" / "flights"
IN_ONE_PROJECT = ("flights", "startup")  # these measure the same project, brought up once
BENCHES = (
    *IN_ONE_PROJECT,
    "checkpoints",
    "first_step",
    "features_join",
    "features_online",
    "features_streaming",
    "feast_universal",
    "first_step_ray",
    "recovery",
    "step_time",
    "ledger",
    "tamper",
    "spot",
    "packing",
    "pollux",
    "queue",
    "doctor",
    "feed",
    "planner",
    "tracking",
    "serving",
    "serving_faults",
    "lake_readers",
    "trees",
    "kafka_delta",
    "engines",
    "autoscale",
)  # each other name is a module with `rows()`


def main(names: list[str]) -> None:
    if names == ["--list"]:
        print("\n".join(BENCHES))
        return
    unknown = set(names) - set(BENCHES)
    if unknown:
        sys.exit(f"no such bench: {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    wanted = [name for name in BENCHES if not names or name in names]
    found: list[Row] = []
    for name in wanted:
        if name not in IN_ONE_PROJECT:
            found += importlib.import_module(f"bench.{name}").rows()
    if set(wanted) & set(IN_ONE_PROJECT):
        found += _flights(wanted)
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(text(found))


def _flights(wanted: Iterable[str]) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        project = flights.copy_of(EXAMPLE, Path(folder) / "flights")
        try:
            brought_up = flights.rows(project)
            return [*(brought_up if "flights" in wanted else []), *(startup.rows(project) if "startup" in wanted else [])]
        finally:
            flights.down(project)


if __name__ == "__main__":
    main(sys.argv[1:])
