"""Which checkpoints are kept."""

from __future__ import annotations

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
