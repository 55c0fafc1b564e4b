"""One command's surroundings: tables, pairs, output for people or as JSON."""

import json
from typing import Annotated

import pytest
import typer

from bedplate.cli.command import command_line, parse_pairs, run_command, show, table
from bedplate.core.errors import NotFound


def test_columns_are_aligned_and_nothing_trails() -> None:
    assert table(("a", "long name"), [("wide cell", 1), ("x", "")]) == "a          long name\nwide cell  1\nx"


def test_pairs_keep_what_follows_the_first_equals_sign() -> None:
    assert parse_pairs(["a=1", "b=x=y", "c="], "--set") == {"a": "1", "b": "x=y", "c": ""}


def test_a_pair_without_an_equals_sign_is_wrong_usage() -> None:
    with pytest.raises(typer.BadParameter, match="--set wants NAME=VALUE, not 'a'"):
        parse_pairs(["a"], "--set")


def test_show_prints_text_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    show({"a": 1}, "for people", as_json=False)
    assert capsys.readouterr().out == "for people\n"
    show({"a": 1}, "for people", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"a": 1}


def test_a_command_is_written_as_a_shell_reads_it() -> None:
    words = command_line("run", ["fit"], {"--set": ["name=a b", "lr=1"], "--force": None})
    assert words == "bedplate run fit --set 'name=a b' --set lr=1"


def test_wrong_usage_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def needs(reason: Annotated[str, typer.Option()]) -> None: ...

    assert run_command(needs, "x", []) == 2
    assert capsys.readouterr().err == "error: Missing option '--reason'; see `bedplate x --help`\n"


def test_wrong_usage_of_a_command_asked_for_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    def needs(reason: Annotated[str, typer.Option()], as_json: Annotated[bool, typer.Option("--json")] = False) -> None: ...

    assert run_command(needs, "x", ["--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told == {"error": {"what": "Missing option '--reason'", "value": None, "fix": "see `bedplate x --help`"}}


def test_what_the_command_raises_is_left_to_the_caller() -> None:
    def fails() -> None:
        raise NotFound("no such thing")

    with pytest.raises(NotFound, match="no such thing"):
        run_command(fails, "x", [])


def test_ctrl_c_is_exit_code_130() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert run_command(interrupted, "x", []) == 130


def test_the_exit_code_is_what_the_function_returns() -> None:
    assert run_command(lambda: None, "x", []) == 0
    assert run_command(lambda: 130, "x", []) == 130
