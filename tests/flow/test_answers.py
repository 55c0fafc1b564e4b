"""Answers: found by their id in the stream that leads to the lake, and in the lake."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from bedplate.core.clock import SystemClock
from bedplate.core.errors import NotFound
from bedplate.data.ingest import ingest_stream
from bedplate.data.lake import Lake
from bedplate.data.streams.log import Log
from bedplate.flow.answers import ANSWERS, answers_table, find_answer
from bedplate.serve.gateway import answer_id
from flow.world import World


def record(identity: str, **changes: Any) -> bytes:
    """A stored answer."""
    values = {
        "id": identity,
        "at": "2024-01-01T00:00:00.000Z",
        "endpoint": "prices",
        "model": "price@1",
        "model_digest": "d" * 64,
        "run": "prices-1",
        "request": json.dumps({"id": 7}),
        "features": json.dumps({"shop": "s1", "size": None}),
        "prediction": 2.5,
        "latency_s": 0.0012,
    }
    return json.dumps({**values, **changes}).encode()


def stream(world: World, endpoint: str = "prices") -> Log:
    return Log(world.workspace.state / "log" / answers_table(endpoint), SystemClock())


def drain(world: World, log: Log, endpoint: str = "prices") -> None:
    name = answers_table(endpoint)
    ingest_stream(name, ANSWERS, log, name, Lake(world.workspace.state / "lake"), lambda _done, _total: None)


def test_an_answer_is_found_before_it_came_to_the_lake_and_after(world: World) -> None:
    log = stream(world)
    log.append([record("a-1"), record("a-2", prediction=4.0)], producer="prices-1/1", sequence=0)
    in_stream = find_answer(world.workspace, "a-2")
    assert (in_stream["prediction"], in_stream["request"], in_stream["features"]) == (4.0, {"id": 7}, {"shop": "s1", "size": None})
    drain(world, log)
    in_lake = find_answer(world.workspace, "a-2")
    assert {name: in_lake[name] for name in in_stream if name != "at"} == {name: in_stream[name] for name in in_stream if name != "at"}


def test_of_several_endpoints_the_right_one_is_found(world: World) -> None:
    for endpoint in ("prices", "delays"):
        log = stream(world, endpoint)
        log.append([record(f"{endpoint}-a", endpoint=endpoint)], producer="p", sequence=0)
        drain(world, log, endpoint)
    assert find_answer(world.workspace, "delays-a")["endpoint"] == "delays"


def test_an_id_inside_another_answer_is_not_taken_for_it(world: World) -> None:
    stream(world).append([record("a-1", request=json.dumps({"note": "a-2"}))], producer="p", sequence=0)
    with pytest.raises(NotFound, match="an answer's `id` is in what the endpoint returned"):
        find_answer(world.workspace, "a-2")


def test_without_any_answers_nothing_is_found_and_nothing_is_made(world: World) -> None:
    with pytest.raises(NotFound):
        find_answer(world.workspace, "a-1")
    assert not (world.workspace.state / "log").exists()


def test_an_id_that_has_its_time_in_it_is_found_wherever_the_clock_was(world: World) -> None:
    log = stream(world)
    now_s = 1_704_067_200.0  # when `record` says that they were given
    ids = [answer_id(now_s), answer_id(now_s - 30.0), answer_id(now_s + 86_400.0), str(uuid4())]
    log.append([record(each, prediction=float(number)) for number, each in enumerate(ids)], producer="p", sequence=0)
    drain(world, log)
    assert [find_answer(world.workspace, each)["prediction"] for each in ids] == [0.0, 1.0, 2.0, 3.0]
    with pytest.raises(NotFound):
        find_answer(world.workspace, answer_id(now_s))
