"""`bedplate scale`: what cannot be is refused in one line; what can is read by the ranks (tests/flow/test_scaling.py)."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, refused, wait_until

ELASTIC = """
project: hello
jobs:
  hello: {function: hello.py:hello, params: {name: world, seconds: 30}, resources: {workers: 1..2, cpus: 0.1}}
"""


def test_a_live_elastic_run_is_told_and_what_it_does_not_allow_is_refused(hello: Path) -> None:
    (hello / "bedplate.yaml").write_text(ELASTIC)
    assert bedplate(hello, "run", "hello", "--detach").returncode == 0
    wait_until(lambda: any(run["status"] == "running" for run in as_json(hello, "runs", "hello")))
    told = as_json(hello, "scale", "hello", "2")
    assert told == {"run": "hello-1", "workers": 2, "least": 1, "most": 2}
    assert next(hello.glob(".bedplate/runs/hello-1/workers")).read_text() == "2"
    assert "hello-1 is asked to go on with 1 workers (from 1 to 2)" in bedplate(hello, "scale", "hello-1", "1").stdout
    assert "choose from 1 to 2" in refused(hello, "scale", "hello", "3")
    bedplate(hello, "cancel", "hello")
    assert "this run is not running" in refused(hello, "scale", "hello", "1")
