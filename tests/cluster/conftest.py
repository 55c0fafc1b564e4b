"""No test of this room leaves a process behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.cluster.tree import kill, members


@pytest.fixture(autouse=True)
def swept(tmp_path: Path) -> Iterator[None]:
    yield
    for attempt in tmp_path.rglob("attempt.json"):
        while kill(members(str(attempt.parent))):
            pass
