"""One command's surroundings: tables, pairs, output for people or as JSON."""

from __future__ import annotations

import json

import pytest
import typer

from bedplate.cli.command import parse_pairs, run_command, show, table


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


def test_the_exit_code_is_what_the_function_returns() -> None:
    assert run_command(lambda: None, "x", []) == 0
    assert run_command(lambda: 130, "x", []) == 130
