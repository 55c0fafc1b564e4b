"""Which checkpoints are kept."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.core.errors import SpecError
from bedplate.train.checkpoints.retention import Keep, Made, superfluous


def made(*losses: float | None) -> list[Made]:
    return [Made(f"step-{number}", number, {} if loss is None else {"loss": loss}) for number, loss in enumerate(losses, 1)]


def kept(keep: Keep, known: list[Made]) -> list[int]:
    gone = {each.location for each in superfluous(known, keep)}
    return [each.number for each in known if each.location not in gone]


def test_the_last_every_nth_and_the_best() -> None:
    known = made(0.9, 0.2, 0.5, 0.6, 0.7, None)
    assert kept(Keep(), known) == [5, 6]
    assert kept(Keep(last=1, every=3), known) == [3, 6]
    assert kept(Keep(last=1, best="loss"), known) == [2, 6]
    assert kept(Keep(last=1, best="-loss"), known) == [1, 6]
    assert kept(Keep(last=1, best="accuracy"), known) == [6]


@given(st.lists(st.none() | st.floats(-5, 5), min_size=1, max_size=30), st.integers(1, 4), st.integers(0, 4))
def test_pruning_as_they_come_keeps_what_pruning_at_the_end_keeps(losses: list[float | None], last: int, every: int) -> None:
    keep = Keep(last, every, "loss")
    present: list[Made] = []
    for each in made(*losses):
        present.append(each)
        present = [one for one in present if one not in superfluous(present, keep)]
    assert present == [each for each in made(*losses) if each not in superfluous(made(*losses), keep)]


def test_what_a_job_declares() -> None:
    assert Keep.of(None) == Keep(2, 0, None)
    assert Keep.of({"last": 3, "best": "loss"}) == Keep(3, 0, "loss")
    with pytest.raises(SpecError, match="at least the last"):
        Keep.of({"last": 0})


@pytest.mark.parametrize(
    ("keep", "numbers"),
    [
        (Keep(last=1), [6]),
        (Keep(last=3), [4, 5, 6]),
        (Keep(last=6), [1, 2, 3, 4, 5, 6]),
        (Keep(last=99), [1, 2, 3, 4, 5, 6]),
        (Keep(last=1, every=1), [1, 2, 3, 4, 5, 6]),
        (Keep(last=1, every=2), [2, 4, 6]),
        (Keep(last=1, every=7), [6]),
        (Keep(last=1, every=4, best="loss"), [2, 4, 6]),
    ],
)
def test_what_is_kept_of_six(keep: Keep, numbers: list[int]) -> None:
    assert kept(keep, made(0.9, 0.2, 0.5, 0.6, 0.7, 0.3)) == numbers


def test_nothing_is_superfluous_of_nothing_or_of_one() -> None:
    assert superfluous([], Keep(last=1, every=2, best="loss")) == []
    assert superfluous(made(1.0), Keep(last=1)) == []


def test_of_equally_good_ones_the_first_is_the_best() -> None:
    assert kept(Keep(last=1, best="loss"), made(0.5, 0.2, 0.2, 0.9)) == [2, 4]
    assert kept(Keep(last=1, best="-loss"), made(0.9, 0.2, 0.9, 0.1)) == [1, 4]


@pytest.mark.parametrize(
    ("best", "losses", "numbers"),
    [
        ("loss", (math.nan, 0.3, 0.9), [2, 4]),
        ("loss", (0.3, math.nan, 0.9), [1, 4]),
        ("-loss", (math.nan, 0.3, 0.9), [3, 4]),
        ("-loss", (0.3, 0.9, math.nan), [2, 4]),
        ("-loss", (0.3, math.inf, 0.9), [2, 4]),
    ],
)
def test_what_is_no_number_is_never_the_best(best: str, losses: tuple[float, ...], numbers: list[int]) -> None:
    assert kept(Keep(last=1, best=best), made(*losses, None)) == numbers


def test_where_nothing_was_a_number_there_is_no_best() -> None:
    assert kept(Keep(last=1, best="loss"), made(math.nan, math.nan, None)) == [3]


def test_numbers_count_what_was_made_also_when_others_are_gone_already() -> None:
    later = [Made("step-40", 4, {}), Made("step-60", 6, {}), Made("step-70", 7, {})]
    assert [each.number for each in superfluous(later, Keep(last=1, every=3))] == [4]


def test_what_is_superfluous_comes_oldest_first() -> None:
    assert [each.number for each in superfluous(made(*[0.0] * 9), Keep(last=2, every=4))] == [1, 2, 3, 5, 6, 7]


@pytest.mark.parametrize(
    ("spec", "keep"),
    [
        ({}, Keep()),
        ({"every": 5}, Keep(2, 5, None)),
        ({"last": None, "every": None, "best": None}, Keep()),
        ({"best": "-accuracy"}, Keep(2, 0, "-accuracy")),
    ],
)
def test_what_is_not_declared_is_as_usual(spec: dict[str, object], keep: Keep) -> None:
    assert Keep.of(spec) == keep


@pytest.mark.parametrize("last", [0, -1])
def test_the_last_one_cannot_be_given_up(last: int) -> None:
    with pytest.raises(SpecError, match=rf"at least the last checkpoint must be kept \(got {last}\)"):
        Keep.of({"last": last, "every": 1})
