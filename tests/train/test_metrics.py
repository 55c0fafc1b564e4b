import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from bedplate.core.attempt import Attempt
from bedplate.core.errors import JobError
from bedplate.core.journal import JournalWriter
from bedplate.train.distributed import Group
from bedplate.train.metrics import FLUSH_ENTRIES, MetricBuffer
from train.samples import attempt_in, journal_of


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    return attempt_in(tmp_path)


@pytest.fixture
def buffer(attempt: Attempt) -> Iterator[MetricBuffer]:
    journal = JournalWriter(attempt.path, "rank-0")
    yield MetricBuffer(journal, Group(0, 1))
    journal.close()


def points(attempt: Attempt) -> list[tuple[int, dict[str, float]]]:
    return [(entry.body["step"], entry.body["values"]) for entry in journal_of(attempt, "metric")]


def test_values_of_a_step_are_one_entry_in_the_order_of_steps(attempt: Attempt, buffer: MetricBuffer) -> None:
    buffer.add(2, {"loss": torch.tensor([3.0], requires_grad=True)})
    buffer.add(1, {"loss": torch.tensor(0.1, dtype=torch.float64), "rate": 1})
    buffer.add(2, {"rate": True})
    assert points(attempt) == []  # nothing is written before the flush
    buffer.flush()
    assert points(attempt) == [(1, {"loss": 0.1, "rate": 1.0}), (2, {"loss": 3.0, "rate": 1.0})]
    assert buffer.last == {"loss": 3.0, "rate": 1.0}
    buffer.flush()
    assert len(points(attempt)) == 2


def test_the_last_value_of_a_step_counts_and_nan_is_kept(attempt: Attempt, buffer: MetricBuffer) -> None:
    buffer.add(1, {"loss": 1.0})
    buffer.add(1, {"loss": torch.tensor(math.nan)})
    buffer.flush()
    assert math.isnan(points(attempt)[0][1]["loss"])


def test_many_values_are_due_at_once(buffer: MetricBuffer) -> None:
    buffer.add(1, {"loss": 1.0})
    assert not buffer.due()
    for step in range(FLUSH_ENTRIES):
        buffer.add(step, {"loss": 1.0})
    assert buffer.due()
    buffer.flush()
    assert not buffer.due()


@pytest.mark.parametrize("value", [torch.zeros(2), "high", None])
def test_what_is_no_number_is_refused_by_name(buffer: MetricBuffer, value: object) -> None:
    with pytest.raises(JobError, match="'loss'"):
        buffer.add(1, {"loss": value})


class Meeting(Group):
    """Rank 0 of several, whose peers have said already what they have."""

    def __init__(self, *others: list[tuple[int, str, float]]) -> None:
        super().__init__(0, 1 + len(others))
        self.others = others

    def gather(self, data: bytes) -> list[bytes]:
        return [data, *(json.dumps(each).encode() for each in self.others)]


def met(
    attempt: Attempt, mine: Sequence[tuple[int, str, float]], *others: list[tuple[int, str, float]]
) -> list[tuple[int, dict[str, float]]]:
    journal = JournalWriter(attempt.path, "rank-0")
    buffer = MetricBuffer(journal, Meeting(*others), mine)
    buffer.flush()
    journal.close()
    return points(attempt)


def test_the_mean_is_over_those_ranks_that_logged_a_value(attempt: Attempt) -> None:
    mine = [(1, "loss", 1.0), (1, "mine", 5.0)]
    assert met(attempt, mine, [(1, "loss", 2.0)], [(1, "loss", 6.0), (2, "late", 8.0)]) == [
        (1, {"loss": 3.0, "mine": 5.0}), (2, {"late": 8.0}),
    ]  # fmt: skip


def test_what_only_others_logged_is_written_as_well(attempt: Attempt) -> None:
    assert met(attempt, [], [(4, "loss", 2.0)], [(4, "loss", 4.0)]) == [(4, {"loss": 3.0})]


def test_of_a_value_that_a_rank_logged_twice_its_last_counts_in_the_mean(attempt: Attempt) -> None:
    assert met(attempt, [(1, "loss", 100.0), (1, "loss", 1.0)], [(1, "loss", 3.0)]) == [(1, {"loss": 2.0})]


def test_a_rank_that_is_no_number_makes_the_mean_none(attempt: Attempt) -> None:
    ((step, values),) = met(attempt, [(1, "loss", math.nan)], [(1, "loss", 3.0)])
    assert step == 1
    assert math.isnan(values["loss"])


def test_values_that_an_earlier_generation_could_not_write_are_written_by_the_next(attempt: Attempt) -> None:
    assert met(attempt, [(3, "loss", 0.5)]) == [(3, {"loss": 0.5})]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (True, 1.0),
        (7, 7.0),
        ("2.5", 2.5),
        (torch.tensor([[4]]), 4.0),
        (torch.tensor(True), 1.0),
        (torch.tensor(1.5, dtype=torch.bfloat16), 1.5),
    ],
)
def test_anything_that_is_one_number_can_be_logged(attempt: Attempt, buffer: MetricBuffer, value: object, written: float) -> None:
    buffer.add(1, {"value": value})
    buffer.flush()
    assert points(attempt) == [(1, {"value": written})]


def test_a_logged_tensor_keeps_no_graph_alive(buffer: MetricBuffer) -> None:
    weight = torch.ones(1, requires_grad=True)
    buffer.add(1, {"loss": (weight * 2).sum()})
    ((_, _, kept),) = buffer.pending
    assert isinstance(kept, torch.Tensor)
    assert kept.grad_fn is None


def test_losses_are_asked_for_once_and_only_losses(buffer: MetricBuffer) -> None:
    buffer.add(1, {"rate": 9.0, "loss": torch.tensor(0.25)})
    buffer.add(2, {"loss": 0.5, "loss_of_valid": 3.0})
    assert buffer.losses() == [(1, 0.25), (2, 0.5)]
    assert buffer.losses() == []
    buffer.add(3, {"loss": math.inf})
    assert buffer.losses() == [(3, math.inf)]
    assert len(buffer.pending) == 5, "they are written all the same"


def test_nothing_is_due_when_nothing_waits(buffer: MetricBuffer) -> None:
    buffer._flushed_at_s -= 3600
    assert not buffer.due()
    buffer.add(1, {"x": 1})
    assert buffer.due(), "one value that waited for an hour"


def test_the_newest_values_are_of_all_that_was_ever_written(buffer: MetricBuffer) -> None:
    buffer.add(1, {"a": 1, "b": 1})
    buffer.flush()
    buffer.add(3, {"a": 3})
    buffer.add(2, {"a": 2, "c": 2})
    assert buffer.last == {"a": 1.0, "b": 1.0}
    buffer.flush()
    assert buffer.last == {"a": 3.0, "b": 1.0, "c": 2.0}
