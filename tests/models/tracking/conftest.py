"""Fixtures of the tracking server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.tracking.kit import Api


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """The routes over a new ledger."""
    made = Api(tmp_path / "state")
    yield made
    made.close()
