"""`bedplate ask`: one request, its answer, and what a wrong one is told."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from cli.kit import as_json, bedplate, processes_of, refused, wait_until


def test_an_answer_names_its_model_and_how_to_trace_it(whole: Path) -> None:
    answer = as_json(whole, "ask", "amounts", "id=7")
    assert answer["model"] == "amount@1"
    assert isinstance(answer["prediction"], float)
    text = bedplate(whole, "ask", "amounts", "id=7").stdout
    assert f"prediction: {answer['prediction']}" in text
    assert "next: bedplate lineage " in text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (["id=999999"], "'visits' has no row with this key"),
        (["ident=1"], "the request has an unknown field (got 'ident'). Fix: did you mean 'id'"),
        (["id=seven"], "the field 'id' is no int (got 'seven')"),
        ([], "the request lacks a field (got 'id')"),
    ],
)
def test_a_wrong_question_is_told_what_is_wrong(whole: Path, fields: list[str], said: str) -> None:
    assert said in refused(whole, "ask", "amounts", *fields)


def test_a_field_without_a_value_is_wrong_usage(whole: Path) -> None:
    done = bedplate(whole, "ask", "amounts", "id")
    assert done.returncode == 2
    assert "ask wants NAME=VALUE, not 'id'" in done.stderr


def test_an_unknown_endpoint_names_the_nearest(whole: Path) -> None:
    assert "no such endpoint (got 'amount'). Fix: did you mean 'amounts'?" in refused(whole, "ask", "amount", "id=1")


def test_an_endpoint_that_does_not_answer_or_is_gone_is_told_so_and_up_brings_it_back(whole: Path) -> None:
    [worker] = processes_of(whole, "flow.worker")
    [shim] = processes_of(whole, "flow.shim")
    os.kill(shim, signal.SIGSTOP)  # it would start the worker again
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not processes_of(whole, "flow.worker"))
    said = refused(whole, "ask", "amounts", "id=1")
    assert "the endpoint does not answer (got 'http://127.0.0.1:" in said
    assert "bedplate explain amounts" in said
    os.kill(shim, signal.SIGKILL)
    wait_until(lambda: not processes_of(whole, "flow.shim"))
    assert "the endpoint is not up (got 'amounts'). Fix: bring it up: `bedplate up`" in refused(whole, "ask", "amounts", "id=1")
    assert "ready (process gone)" in bedplate(whole, "ps").stdout
    assert "the next `bedplate up`" in as_json(whole, "explain", "amounts")["process"]
    assert bedplate(whole, "up").returncode == 0
    assert as_json(whole, "ask", "amounts", "id=1")["model"] == "amount@1"
