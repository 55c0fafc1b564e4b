"""How many of the cases that Feast's universal retrieval tests ask of an offline store hold for this engine, and for Feast's DuckDB store.

Feast's package comes without those tests; `bench/feast_cases.py` has their cases anew. Two of them, rows given as SQL, ask for a
warehouse and are no cases for files, in Feast's own runs neither.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.features_join import FEAST
from bench.peers import python_of
from bench.table import Row

HERE = Path(__file__).parent
LIMIT_S = 600


def rows() -> list[Row]:
    """Cases that hold; those that do not are printed."""
    ours, peer = (_held(kind) for kind in ("feast_store.BedplateOfflineStore", "duckdb"))
    name = f"Feast's {len(ours)} retrieval cases that hold"
    return [Row(name, _count(ours), "cases", "", _count(peer), "Feast, DuckDB", 1.0, higher_is_better=True)]


def _count(held: Mapping[str, str]) -> int:
    return sum(not error for error in held.values())


def _held(kind: str) -> Mapping[str, str]:
    """Each case and why it does not hold."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "ENGINE_PYTHON": sys.executable, "FEAST_USAGE": "False"}
    command = [str(python_of("feast", FEAST)), str(HERE / "feast_cases.py"), kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: Mapping[str, str] = json.loads(done.stdout.splitlines()[-1])
    for name, error in found.items():
        if error:
            print(f"{kind}: {name}: {error}", file=sys.stderr)
    return found
