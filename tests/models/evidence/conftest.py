"""The sample as fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bedplate.core.ledger import Ledger
from bedplate.core.versions import Version
from bedplate.models.evidence.facts import Facts
from models.evidence import sample


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of the model version."""
    return sample.model_folder(tmp_path / "state" / "model")


@pytest.fixture
def version(model: Path) -> Version:
    return sample.model_version(model)


@pytest.fixture
def ledger(tmp_path: Path, version: Version, own_home: Path) -> Iterator[Ledger]:
    opened = sample.ledger_of(tmp_path / "state", version, own_home)
    yield opened
    opened.close()


@pytest.fixture
def facts(ledger: Ledger, version: Version, model: Path) -> Facts:
    return sample.facts_of(ledger, version, model)
