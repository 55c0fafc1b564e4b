"""The tables of what is loaded by name: every row leads somewhere, and each kind of step has work."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest

from bedplate.core.loading import load
from bedplate.core.plan import StepKind
from bedplate.flow.tables import LAUNCHERS, SERIES, WORK


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launchers_are_there_and_know_their_name(name: str) -> None:
    assert load(LAUNCHERS, name, "engine").name == name


@pytest.mark.parametrize("name", WORK)
def test_work_is_there(name: str) -> None:
    assert callable(load(WORK, name, "kind of step"))


def test_every_kind_of_step_has_work_and_a_summary() -> None:
    assert set(WORK) == set(get_args(StepKind))
    assert all(entry.summary for table in (LAUNCHERS, WORK, SERIES) for entry in table.values())
    assert callable(load(SERIES, "series", "store"))


def test_the_tables_load_nothing_by_themselves() -> None:
    code = "import sys, bedplate.flow.tables; print([name for name in sys.modules if name.startswith('bedplate.')])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "engines" not in shown and "steps" not in shown and "models" not in shown
