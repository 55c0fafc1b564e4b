"""The facade: every name resolves, and importing it loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import bedplate


@pytest.mark.parametrize("name", bedplate.__all__)
def test_every_name_resolves_to_what_it_is_called(name: str) -> None:
    assert getattr(bedplate, name).__name__ == name


def test_the_names_are_sorted_and_shown() -> None:
    assert sorted(bedplate.__all__) == bedplate.__all__ == dir(bedplate)


def test_every_error_of_the_facade_is_a_bedplate_error() -> None:
    errors = [getattr(bedplate, name) for name in bedplate.__all__ if isinstance(getattr(bedplate, name), type)]
    assert sum(issubclass(error, bedplate.BedplateError) for error in errors) == 7


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'bedplate' has no attribute 'nothing'"):
        bedplate.nothing  # noqa: B018 - the access is the test


def loaded(statement: str) -> set[str]:
    """The top-level packages that are loaded after a statement, in a fresh interpreter."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    return set(json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout))


def test_importing_the_facade_loads_nothing_heavy() -> None:
    heavy = {"pydantic", "yaml", "pyarrow", "duckdb", "deltalake", "torch", "numpy", "starlette", "uvicorn", "httpx", "typer", "rich"}
    assert loaded("import bedplate") & heavy == set()


def test_a_record_type_needs_neither_an_engine_nor_torch() -> None:
    found = loaded("import bedplate; bedplate.RunRecord, bedplate.Plan, bedplate.Node")
    assert found & {"pyarrow", "duckdb", "torch", "deltalake"} == set()


def test_planning_needs_no_torch() -> None:
    assert "torch" not in loaded("import bedplate; bedplate.open_project")
