"""Rollback and release, killed at any instant: what is recorded, what the table holds and what comes next always agree."""

from __future__ import annotations

import random
import time
from pathlib import Path

from bedplate.flow.workspace import open_workspace
from cli.kit import as_json, bedplate, started
from cli.sales import good, ids

KILLS = 4
COMMANDS = (("rollback", "clicks@1"), ("rollback", "clicks@2"), ("release", "clicks"))


def held(folder: Path) -> int | None:
    """The version that the table is held at, as recorded."""
    with open_workspace(folder) as workspace:
        rolled = workspace.records.held("clicks")
        return None if rolled is None else int(rolled["version"])


def test_the_same_command_ends_what_a_kill_left(sales: Path) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    choose = random.Random(seed)
    for _ in range(KILLS):
        words = ("data", *choose.choice(COMMANDS), "--reason", "broken")
        before = ids(sales, "clicks")
        with started(sales, *words) as process:
            time.sleep(choose.uniform(0.1, 0.9))
            process.kill()
        assert ids(sales, "clicks") in (before, good(30), good(50)), "a state of the table, never a mixture"
        bedplate(sales, *words)  # which is refused where there is nothing to do
        number = held(sales)
        if number is not None:
            assert ids(sales, "clicks") == good({1: 30, 2: 50}[number])
    if held(sales) is not None:
        assert bedplate(sales, "data", "release", "clicks", "--reason", "mended").returncode == 0
    done = bedplate(sales, "run", "clicks", "--force", "clicks")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ids(sales, "clicks") == good(50)
    quarantine = as_json(sales, "data", "diff", "clicks_quarantine@commit:0", "clicks_quarantine")
    assert quarantine["rows_after"] == 5, "nor is a row of the quarantine lost or doubled"
    assert as_json(sales, "data", "diff", "clicks@2")["after"] == "clicks@2", "the same content is the same version"
