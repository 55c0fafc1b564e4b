"""What both ways to serve share: which way it is, limits, and a port that is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bedplate.flow.steps.context import StepContext
from bedplate.flow.steps.serving import bind_kept, declared, limits
from bedplate.serve.batching import Limits
from flow.steps import tables
from flow.world import attempt

SPEC = {"inputs": tables.INPUTS.model_dump(mode="json"), "spine": tables.VISITS, "views": {}, "port": 0}


def test_the_port_of_an_endpoint_is_kept(tmp_path: Path) -> None:
    made = attempt(tmp_path, "prices", "endpoint", SPEC)
    with bind_kept(StepContext(made)) as first:
        port = first.getsockname()[1]
    (Path(made.state) / "endpoints").mkdir()
    (Path(made.state) / "endpoints" / "prices.json").write_text(json.dumps(port))
    with bind_kept(StepContext(made)) as again:
        assert again.getsockname()[1] == port


@pytest.mark.usefixtures("clean_imports")
def test_what_is_declared_of_serving_is_what_a_replica_keeps_to(tmp_path: Path) -> None:
    declared = {"batching": {"size": 8, "delay": "2ms"}, "deadline": "500ms", "queue": 5, "keys": "required"}
    step = StepContext(attempt(tmp_path / "one", "prices", "endpoint", {**SPEC, "limits": declared}))
    bounds, guard = limits(step)
    assert bounds == Limits(size=8, delay_s=0.002, queue=5, deadline_s=0.5)
    assert guard is not None
    assert limits(StepContext(attempt(tmp_path / "two", "prices", "endpoint", SPEC))) == (Limits(), None)


def test_a_router_stands_before_replicas_only_where_that_is_declared(tmp_path: Path) -> None:
    assert not declared(attempt(tmp_path / "one", "prices", "endpoint", SPEC)).routed
    several = declared(attempt(tmp_path / "two", "prices", "endpoint", {**SPEC, "scaling": {"replicas": 3}}))
    assert (several.routed, several.scaling.max) == (True, 3)
    warm = {"scale": {"min": 0, "max": 2, "warm": [{"at": "06:30", "for": "1h"}]}}
    assert declared(attempt(tmp_path / "three", "prices", "endpoint", {**SPEC, "scaling": warm})).scaling.warm[0].for_ == "1h"
