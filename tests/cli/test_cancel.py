"""`bedplate cancel`: a run ends at once, whoever hosts the loop, or nobody."""

from __future__ import annotations

from pathlib import Path

from cli.kit import as_json, bedplate, ended, is_running, processes_of, refused, started, wait_until


def test_it_ends_a_run_and_the_command_that_waits_for_it(hello: Path) -> None:
    process = started(hello, "run", "hello", "--set", "seconds=60")
    wait_until(lambda: is_running(hello))
    assert bedplate(hello, "cancel", "hello").stdout == "hello-1 cancelled\n"
    code, output = ended(process)
    assert code == 130, output
    assert "hello-1 cancelled" in output
    assert not processes_of(hello)


def test_a_run_whose_command_was_killed_is_adopted_and_ended(hello: Path) -> None:
    process = started(hello, "run", "hello", "--set", "seconds=60")
    wait_until(lambda: is_running(hello))
    process.kill()
    ended(process)
    assert processes_of(hello), "the run outlives its command"
    assert as_json(hello, "cancel", "hello-1")["status"] == "cancelled"
    assert not processes_of(hello)


def test_one_that_has_ended_is_left_as_it_is(hello: Path) -> None:
    bedplate(hello, "run", "hello")
    assert as_json(hello, "cancel", "hello-1")["status"] == "succeeded"


def test_an_unknown_run_names_the_nearest(hello: Path) -> None:
    bedplate(hello, "run", "hello")
    assert "no such run (got 'hello-7'). Fix: did you mean 'hello-1' or 'hello'?" in refused(hello, "cancel", "hello-7")
