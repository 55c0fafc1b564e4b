"""The planner against published throughput: the bars that it is held to, on every row of published.csv."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import pytest

from bedplate.train.planner.search import HEADROOM
from train.planner.published import Case, cases, sources

BY_SOURCE = {name: [case for case in cases() if case.source == name] for name in sources()}
MODELS = sorted({case.work.shape.name for case in cases()})
TABLES: dict[tuple[str, ...], list[Case]] = {}
for _case in cases():  # configurations of one model on one accelerator, by one publisher
    TABLES.setdefault((_case.source, _case.work.shape.name, _case.cluster.device.name, _case.work.precision), []).append(_case)
LEAST = 4  # configurations that have an order to speak of


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 0, equal values sharing the mean of theirs."""
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """The rank correlation."""
    return statistics.correlation(ranks(one), ranks(other))


def test_there_are_rows_enough_and_each_has_a_source_with_an_address() -> None:
    assert len(cases()) >= 150
    assert {case.source for case in cases()} == set(sources())
    assert all("https://" in text for text in sources().values())
    assert len({case.cluster.device.name for case in cases()}) >= 6
    assert len({case.work.shape.name for case in cases()}) >= 15


def test_the_mean_error_of_tokens_a_second_is_below_a_fifth_with_room() -> None:
    assert statistics.mean(abs(case.error()) for case in cases()) <= 0.08


@pytest.mark.parametrize("source", sources())
def test_no_source_is_predicted_badly(source: str) -> None:
    assert statistics.mean(abs(case.error()) for case in BY_SOURCE[source]) <= 0.15


def test_hardly_any_row_is_far_off() -> None:
    far = [case.name for case in cases() if abs(case.error()) > 0.2]
    assert len(far) <= 0.03 * len(cases()), far


@pytest.mark.parametrize("case", [case for case in cases() if case.memory_gib is not None], ids=lambda case: case.name)
def test_memory_is_within_15_percent_where_it_is_told(case: Case) -> None:
    error = case.memory_error()
    assert error is not None
    assert abs(error) <= 0.15


def order(rows: Sequence[Case]) -> float:
    """The rank correlation of predicted and measured tokens a second."""
    return spearman([row.predict().tokens_per_s_per_device for row in rows], [row.tokens_per_s for row in rows])


@pytest.mark.parametrize("model", [name for name in MODELS if sum(case.work.shape.name == name for case in cases()) >= LEAST])
def test_the_order_of_configurations_of_a_model_is_kept(model: str) -> None:
    assert order([case for case in cases() if case.work.shape.name == model]) >= 0.9


def test_the_order_is_kept_within_tables_of_one_accelerator_but_for_one() -> None:
    """Of MPT-13B on H100 four rows, measured within 1% of one another, are predicted 15% too fast."""
    broken = {key for key, rows in TABLES.items() if len(rows) >= LEAST and order(rows) < 0.9}
    assert broken <= {("llm-foundry", "mpt-13b", "H100-SXM", "bf16")}


def test_published_runs_on_whole_devices_are_told_to_fit() -> None:
    """Rows whose memory is published ran; the planner must not call them impossible by more than its own error."""
    for case in cases():
        if case.memory_gib is not None and case.cluster.power_limit_w is None:
            assert case.predict().memory.total_bytes < 1.15 * case.cluster.device.memory_bytes / HEADROOM, case.name


def test_utilization_is_what_publishers_tell() -> None:
    """Llama 3 (2024), table 4: 43% and 41%; torchtitan on 64 A100, Llama 3 8B: 58% with attention in full."""
    by_count = {case.cluster.devices: case for case in BY_SOURCE["llama3-paper"]}
    assert by_count[8192].predict().model_flops_utilization == pytest.approx(0.43, abs=0.07)
    assert by_count[16384].predict().model_flops_utilization < by_count[8192].predict().model_flops_utilization
