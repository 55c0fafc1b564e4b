"""Searching runs in SQL: it agrees with the evaluator in memory on any filter, and orders as MLflow does."""

from __future__ import annotations

import random

import pytest

from bedplate.models.tracking.language import matches, parse_filter
from models.tracking.kit import Api

FILTERS = [
    "metrics.acc > 0.5",
    "metrics.acc <= 0.5 and params.depth = '3'",
    "metrics.acc != 0.25 and metrics.loss < 2",
    "params.depth != '3'",
    "params.depth LIKE '_' and tags.team ILIKE 'BLUE%'",
    "params.depth IS NULL",
    "tags.team IS NOT NULL and attributes.status = 'RUNNING'",
    "tags.team LIKE 'b%' and start_time >= 5 and start_time != 7",
    "run_name LIKE 'run-1%'",
    "run_name IN ('run-1', 'run-2', 'run-30') and metrics.loss >= 0",
    "run_name NOT IN ('run-1') and params.`with space` = \"it's\"",
    "tags.team LIKE '%[*]%'",
]


@pytest.fixture
def runs(api: Api) -> dict[str, dict[str, dict[str, object]]]:
    """Forty runs by id: their values as the evaluator in memory takes them."""
    rng, made = random.Random(20130101), {}
    for number in range(40):
        name = f"run-{number}"
        run = api.run(run_name=name, start_time=number + 1)
        params = {"depth": str(rng.randrange(5))} if rng.random() < 0.8 else {}
        params |= {"with space": "it's"} if rng.random() < 0.3 else {}
        tags = {"team": rng.choice(["blue", "Blue 2", "red", "b[*]c"])} if rng.random() < 0.7 else {}
        metrics = {key: round(rng.random() * scale, 2) for key, scale in (("acc", 1), ("loss", 3)) if rng.random() < 0.8}
        api.ok(
            "POST",
            "runs/log-batch",
            run_id=run,
            params=[{"key": key, "value": value} for key, value in params.items()],
            tags=[{"key": key, "value": value} for key, value in tags.items()],
            metrics=[{"key": key, "value": value, "timestamp": 1} for key, value in metrics.items()],
        )
        attributes = {"run_name": name, "start_time": number + 1, "status": "RUNNING"}
        made[run] = {"params": params, "tags": tags, "metrics": metrics, "attributes": attributes}
    return made


def found(api: Api, text: str, *orders: str) -> list[str]:
    told = api.ok("POST", "runs/search", experiment_ids=["0"], filter=text, order_by=list(orders))
    return [run["info"]["run_id"] for run in told["runs"]]


def test_both_evaluators_agree(api: Api, runs: dict[str, dict[str, dict[str, object]]]) -> None:
    some = 0
    for text in FILTERS:
        expected = {run for run, values in runs.items() if matches(parse_filter(text), values)}
        assert set(found(api, text)) == expected, text
        some += 0 < len(expected) < len(runs)
    assert some >= len(FILTERS) - 1, "filters that tell runs apart"


def test_orders_put_gaps_last_and_the_newest_first_among_equals(api: Api, runs: dict[str, dict[str, dict[str, object]]]) -> None:
    for order, key in (("metrics.acc", "acc"), ("metrics.acc DESC", "acc")):
        ids = found(api, "", order)
        values = [runs[run]["metrics"].get(key) for run in ids]
        there = [value for value in values if value is not None]
        assert there == sorted(there, reverse=order.endswith("DESC"))
        assert values[: len(there)] == there
        gaps = [runs[run]["attributes"]["start_time"] for run in ids[len(there) :]]
        assert gaps == sorted(gaps, reverse=True)
    names = [runs[run]["attributes"]["run_name"] for run in found(api, "", "run_name ASC")]
    assert names == sorted(names)
    by_param = [runs[run]["params"].get("depth", "~") for run in found(api, "", "params.depth", "metrics.loss DESC")]
    assert by_param == sorted(by_param)


def test_several_experiments_and_none(api: Api) -> None:
    other = api.ok("POST", "experiments/create", name="other")["experiment_id"]
    runs = {api.run(), api.run(other)}
    told = api.ok("POST", "runs/search", experiment_ids=["0", other])["runs"]
    assert {run["info"]["run_id"] for run in told} == runs
    assert api.ok("POST", "runs/search", experiment_ids=[])["runs"] == []


def test_a_filter_on_datasets(api: Api) -> None:
    run, _ = api.run(), api.run()
    dataset = {"name": "flights", "digest": "abc", "source_type": "local", "source": "{}"}
    api.ok(
        "POST", "runs/log-inputs", run_id=run, datasets=[{"dataset": dataset, "tags": [{"key": "mlflow.data.context", "value": "train"}]}]
    )
    for text in ("dataset.name = 'flights'", "datasets.digest LIKE 'a%'", "dataset.context = 'train'", "dataset.name IN ('flights')"):
        assert found(api, text) == [run], text
    assert found(api, "dataset.name = 'other'") == []
