"""Tampering: seeded edits of artifacts, manifests, decisions, events, heads and evidence of a project, and how many are found and named."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from bench.table import Row

TESTS = Path(__file__).parents[1] / "tests"
EDITS = int(os.environ.get("BENCH_TAMPER_EDITS", "1000"))


def rows() -> list[Row]:
    """The edits are those of `tests/crash/tamper.py`, on the small project of the crash sweep, brought up once."""
    sys.path.insert(0, str(TESTS))
    from cli.kit import bedplate
    from crash.small_project import write_small_project
    from crash.tamper import Specimen, sweep

    before = os.environ.get("BEDPLATE_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BEDPLATE_HOME"] = str(Path(folder) / "home")
        project = write_small_project(Path(folder) / "small")
        try:
            for words in (("up",), ("down",), ("evidence", "amount@1", "--out", "evidence", "--with-model")):
                said = bedplate(project, *words)
                if said.returncode:
                    raise RuntimeError(said.stdout + said.stderr)
            (Path(folder) / "copies").mkdir()
            started_s = time.perf_counter()
            counts = sweep(Specimen(project, project / "evidence", Path(folder) / "copies"), range(EDITS))
            took_s = time.perf_counter() - started_s
        finally:
            bedplate(project, "down")
            os.environ.pop("BEDPLATE_HOME")
            if before is not None:
                os.environ["BEDPLATE_HOME"] = before
            sys.path.remove(str(TESTS))
    found = sum(counts.values())
    kinds = ", ".join(f"{count} {area}" for area, count in sorted(counts.items()))
    return [
        Row(f"tampering: edits found and named, of {EDITS}", found, "edits", kinds, limit=EDITS, higher_is_better=True),
        Row("tampering: one edit, verified", took_s / EDITS, "s"),
    ]
