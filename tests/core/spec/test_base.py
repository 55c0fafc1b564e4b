"""Names, and that what is declared never changes."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bedplate.core.spec import Dataset, ProjectSpec


def test_what_is_declared_never_changes() -> None:
    with pytest.raises(ValidationError):
        Dataset(source="a").source = "b"


@pytest.mark.parametrize("name", ["a", "a-b_c", "a1", "a" * 63])
def test_a_name(name: str) -> None:
    assert ProjectSpec(project=name).project == name


@pytest.mark.parametrize("name", ["", "A", "1a", "-a", "a.b", "a/b", "../a", "a b", "a\n", "a@1", "a" * 64, "é"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValidationError):
        ProjectSpec(project=name)
