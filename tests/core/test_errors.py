"""Errors: every one says what failed, the value and the fix, in one line."""

from __future__ import annotations

import inspect
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.core import errors
from bedplate.core.errors import BedplateError, Busy, ChainBroken, Fenced, LedgerError, SpecError, nearest

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind.__module__ == errors.__name__]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (BedplateError("it failed"), "it failed"),
        (BedplateError("it failed", value=0), "it failed (got 0)"),
        (BedplateError("it failed", value=""), "it failed (got '')"),
        (BedplateError("it failed", fix="do this"), "it failed. Fix: do this"),
        (Busy("held", value="a\nb", fix="wait"), "held (got 'a\\nb'). Fix: wait"),
        (SpecError("wrong", fix="mend it"), "wrong. Fix: mend it"),
        (
            SpecError("wrong", file="bedplate.yaml", line=3, field="jobs.a", value=7, fix="mend it"),
            "bedplate.yaml:3: jobs.a: wrong (got 7). Fix: mend it",
        ),
    ],
)
def test_one_line(error: BedplateError, line: str) -> None:
    assert error.one_line() == str(error) == line


def test_all_errors_are_caught_as_one_kind_and_the_tree_is_drawn_whole() -> None:
    for kind in CLASSES:
        assert issubclass(kind, BedplateError)
        assert f"{kind.__name__}" in (errors.__doc__ or "")
    assert issubclass(Fenced, LedgerError)
    assert issubclass(ChainBroken, LedgerError)


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_survives_the_way_between_processes(kind: type[BedplateError]) -> None:
    error = pickle.loads(pickle.dumps(kind("it failed", value=[1], fix="do this")))
    assert type(error) is kind
    assert error.one_line() == "it failed (got [1]). Fix: do this"


def test_nearest_names_what_was_meant() -> None:
    assert nearest("dataset", ["datasets", "jobs"]) == "did you mean 'datasets'?"
    assert nearest("trian", ["train", "train_b", "zzz"]) == "did you mean 'train' or 'train_b'?"


def test_nearest_lists_what_there_is_when_nothing_is_near() -> None:
    assert nearest("x", []) == "none is declared"
    assert nearest("qqq", ["b", "a"]) == "known: a, b"
    assert nearest("qqq", [f"name{number:02d}" for number in range(20)]).endswith("name11, …")


@given(st.text(), st.lists(st.text(min_size=1), max_size=20))
def test_nearest_answers_for_any_names(name: str, known: list[str]) -> None:
    answer = nearest(name, known)
    assert answer == "none is declared" if not known else answer.startswith(("did you mean", "known: "))
