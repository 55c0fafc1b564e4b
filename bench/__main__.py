"""Runs all benches and prints the table. `python -m bench startup ledger` runs some."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from pathlib import Path

from bench import first_step, flights, ledger, startup
from bench.table import Row, text

EXAMPLE = Path(__file__).parents[1] / "examples" / "flights"


def main(names: list[str]) -> None:
    found: list[Row] = []
    wanted = set(names) or {"flights", "startup", "first_step", "ledger"}
    if "ledger" in wanted:
        found += ledger.rows()
    if "first_step" in wanted:
        found += first_step.rows()
    if wanted & {"flights", "startup"}:
        with tempfile.TemporaryDirectory() as folder:
            project = flights.copy_of(EXAMPLE, Path(folder) / "flights")
            try:
                brought_up = flights.rows(project)
                found += brought_up if "flights" in wanted else []
                found += startup.rows(project) if "startup" in wanted else []
            finally:
                flights.down(project)
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}\n")
    print(text(found))


if __name__ == "__main__":
    main(sys.argv[1:])
