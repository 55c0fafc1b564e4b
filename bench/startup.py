"""How long a person waits for nothing: import, help, and doing again what is done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from bench.table import Row, median_s

REPEATS = 9


def rows(project: Path) -> list[Row]:
    """Import, help, and a second `up` of a project that is up."""

    def python(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, capture_output=True)

    bare, _ = median_s(lambda: python("-c", "pass"), REPEATS)
    imported, import_spread = median_s(lambda: python("-c", "import bedplate"), REPEATS)
    helped, help_spread = median_s(lambda: python("-m", "bedplate.cli.main", "--help"), REPEATS)
    again, again_spread = median_s(lambda: python("-m", "bedplate.cli.main", "up", "-C", str(project)), 5)
    return [
        Row("import bedplate (process included)", imported, "s", import_spread, limit=0.3, peer=None),
        Row("bedplate --help", helped, "s", help_spread, limit=0.4),
        Row("a bare Python process, for comparison", bare, "s"),
        Row("up again, all up to date", again, "s", again_spread, limit=1.5),
    ]
