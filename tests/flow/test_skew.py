"""Skew: what was served is what training would have computed, and a difference is found and named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from bedplate.core.errors import NotFound
from bedplate.data.ingest import ingest_stream
from bedplate.data.lake import Lake
from bedplate.data.streams.log import Log
from bedplate.flow.answers import ANSWERS, answers_table, find_answer
from bedplate.flow.opened import OpenProject
from bedplate.flow.skew import Compared, same, skew
from bedplate.flow.workspace import Workspace

ENDPOINT = "amounts"


@pytest.fixture(scope="module")
def answered(served: tuple[Path, OpenProject]) -> tuple[Workspace, dict[str, Any]]:
    """The served project after a few answers, and one of them."""
    _, project = served
    (run,) = project.runs(ENDPOINT)
    url = f"http://127.0.0.1:{run.port}"
    body = httpx.post(f"{url}/predict", json={"instances": [{"id": number} for number in range(500, 520)]}, timeout=20).json()
    for _ in range(400):
        if httpx.get(f"{url}/health", timeout=20).json()["answers"]["drained"] >= 20:
            break
        project._workspace.clock.sleep(0.05)
    return project._workspace, dict(find_answer(project._workspace, body["ids"][0]))


def remember(workspace: Workspace, record: Mapping[str, Any], number: int) -> None:
    """Put a record among the endpoint's answers."""
    topic = answers_table(ENDPOINT)
    log = Log(workspace.state / "log" / topic, workspace.clock)
    texts = {name: json.dumps(record[name]) for name in ("request", "features")}
    times = {name: record[name].isoformat() for name in ("at", "as_of")}
    log.append([json.dumps({**record, **texts, **times}).encode()], producer=f"test-{number}", sequence=0)
    ingest_stream(topic, ANSWERS, log, topic, Lake(workspace.state / "lake"), lambda *_: None)


def test_what_was_served_is_what_training_would_have_computed(answered: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, record = answered
    found = skew(workspace, ENDPOINT, 1000)
    assert found.equal, found
    assert found.answers >= 20
    assert set(found.features) == set(record["features"])
    assert all(each.compared == found.answers for each in found.features.values())
    assert found.to_json()["equal"] is True


def test_a_difference_is_found_and_named(answered: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, record = answered
    name, value = next((name, value) for name, value in record["features"].items() if isinstance(value, float) and "__" in name)
    remember(workspace, {**record, "id": "skewed", "features": {**record["features"], name: value + 0.5}}, 1)
    found = skew(workspace, ENDPOINT, 1000)
    assert not found.equal
    assert found.features[name].max_difference == pytest.approx(0.5)
    (example,) = found.features[name].examples
    assert (example.answer, example.served, example.trained) == ("skewed", value + 0.5, value)
    assert all(each.equal == each.compared for other, each in found.features.items() if other != name)


def test_an_answer_whose_row_is_gone_is_left_out(answered: tuple[Workspace, dict[str, Any]]) -> None:
    workspace, record = answered
    remember(workspace, {**record, "id": "gone", "request": {"id": 10**6}}, 2)
    assert skew(workspace, ENDPOINT, 1000).left_out == 1


def test_an_endpoint_that_is_not_there(answered: tuple[Workspace, dict[str, Any]]) -> None:
    with pytest.raises(NotFound, match="no such endpoint"):
        skew(answered[0], "amount", 10)


def test_numbers_are_compared_as_floats_are() -> None:
    assert same(0.1 + 0.2, 0.3) and same(None, None) and same("a", "a") and same(3, 3.0)
    assert not same(1.0, 1.0 + 1e-6) and not same(None, 0.0) and not same("a", None)
    compared = Compared()
    for number in range(10):
        compared.add(str(number), None, float(number))
    assert (compared.compared, compared.equal, len(compared.examples)) == (10, 0, 3)
