import math
from collections.abc import Iterator
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
