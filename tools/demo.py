"""`make run`: types the commands that a person would, from raw data to an answer and its lineage."""

import json
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    project = Path(sys.argv[1])
    started_s = time.monotonic()
    if typed(project, "up") != 0:
        return 1
    print(f"\n(the work took {time.monotonic() - started_s:.0f} s)")
    question = pick(project)
    print(f"\n$ bedplate ask delay-api {' '.join(question)}")
    asked = subprocess.run(command(project, "ask", "delay-api", *question, "--json"), capture_output=True, text=True, check=False)
    print(asked.stdout or asked.stderr)
    if asked.returncode != 0:
        return 1
    if typed(project, "lineage", json.loads(asked.stdout)["id"]) != 0:
        return 1
    print(f"\nThe endpoint stays up. To stop it: .venv/bin/bedplate down -C {project}")
    return 0


def command(project: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "bedplate.cli.main", *words, "-C", str(project)]


def typed(project: Path, *words: str) -> int:
    print(f"\n$ bedplate {' '.join(words)}", flush=True)
    return subprocess.run(command(project, *words), check=False).returncode


def pick(project: Path) -> list[str]:
    """The key fields of the last flight of the data."""
    import duckdb

    query = (
        "SELECT carrier, flight, origin, strftime(time_hour, '%Y-%m-%dT%H:%M:%SZ') FROM read_csv(?, nullstr = 'NA') "
        "WHERE dep_delay IS NOT NULL ORDER BY time_hour DESC, carrier, flight LIMIT 1"
    )
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    row = database.execute(query, [str(project / "data" / "raw" / "flights.csv")]).fetchone()
    return [f"{name}={value}" for name, value in zip(("carrier", "flight", "origin", "time_hour"), row, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
