"""The user's functions, found in the snapshot of the code."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bedplate.core.errors import JobError
from bedplate.flow.steps.entry import load_function


@pytest.fixture
def code(tmp_path: Path, clean_imports: None) -> Path:
    sys.path.insert(0, str(tmp_path))
    (tmp_path / "flat_entry.py").write_text("def fit(run): return 1\nlimit = 3\n_hidden = print\n")
    (tmp_path / "deep_entry").mkdir()
    (tmp_path / "deep_entry" / "inner.py").write_text("from flat_entry import fit\ndef other(run): return fit(run) + 1\n")
    return tmp_path


def test_a_function_of_a_file_or_of_one_in_a_folder(code: Path) -> None:
    assert load_function("flat_entry.py:fit")(None) == 1
    assert load_function("./flat_entry.py:fit")(None) == 1
    assert load_function("deep_entry/inner.py:other")(None) == 2


@pytest.mark.parametrize(("name", "fix"), [("fitt", "did you mean 'fit'"), ("limit", "did you mean 'fit'"), ("hidden", "known: fit")])
def test_what_is_no_function_is_refused_with_the_nearest(code: Path, name: str, fix: str) -> None:
    with pytest.raises(JobError, match=f"flat_entry.py has no function of that name.*{fix}"):
        load_function(f"flat_entry.py:{name}")
