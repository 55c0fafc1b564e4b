"""Auditing a project's ledger, without folding it: one that was tampered with may not fold.

Does not know: what the events say.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from bedplate.core.clock import SystemClock
from bedplate.core.heads import Audit, audit
from bedplate.core.ledger import Ledger
from bedplate.core.project import load_project
from bedplate.core.settings import read_settings


def audit_project(folder: Path) -> Audit:
    """Verify the ledger of the project in `folder` or above. Raises ChainBroken naming what does not fit."""
    settings = read_settings()
    project = load_project(folder.resolve(), settings)
    with closing(Ledger(project.state / "ledger.db", project.name, SystemClock())) as ledger:
        return audit(ledger, settings.home)
