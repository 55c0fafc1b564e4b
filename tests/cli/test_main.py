"""Dispatch: the list of commands, unknown ones, errors as one line with an exit code, or as JSON."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from bedplate.cli.main import COMMANDS, help_text, main
from cli.kit import apart, bedplate, refused


def test_help_without_a_command_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["help"]):
        assert main(words) == 0
        assert capsys.readouterr().out.strip() == help_text().strip()


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == version("bedplate")


@pytest.mark.parametrize(
    ("words", "nearest"),
    [(["pln"], "'plan'"), (["data", "histroy"], "'data history'"), (["audit"], "'audit verify'"), (["zzz"], "known: ")],
)
def test_an_unknown_command_names_the_nearest(words: list[str], nearest: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "no such command" in said
    assert nearest in said


def test_an_option_before_the_command_is_told_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-C", "x", "plan"]) == 2
    assert "options follow the command" in capsys.readouterr().err


def test_help_of_a_command_and_of_those_that_share_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["help", "audit", "verify"], ["audit", "verify", "--help"]):
        assert main(words) == 0
        assert "Usage: bedplate audit verify" in capsys.readouterr().out
    for words in (["help", "audit"], ["audit", "--help"]):
        assert main(words) == 0
        listed = capsys.readouterr().out
        assert "audit verify" in listed
        assert "plan" not in listed


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_prints_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Example: bedplate {name}" in text
    assert "--json" in text
    assert "-C, --project" in text or name in ("init", "catalog", "evidence verify")


def test_an_error_is_one_line_with_the_fix_and_exit_code_1(tmp_path: Path) -> None:
    for done in (apart(tmp_path, "plan"), bedplate(tmp_path, "plan")):
        assert done.returncode == 1
        assert done.stdout == ""
        [line] = done.stderr.splitlines()
        assert line.startswith("error: there is no project file here")
        assert "bedplate init" in line


def test_with_json_an_error_is_json_too_and_names_the_place(hello: Path, tmp_path: Path) -> None:
    done = bedplate(tmp_path, "plan", "--json")
    assert done.returncode == 1
    assert set(json.loads(done.stdout)["error"]) == {"what", "value", "fix"}
    (hello / "bedplate.yaml").write_text("project: hello\njobs:\n  hello: {functoin: hello.py:hello}\n")
    error = json.loads(bedplate(hello, "plan", "--json").stdout)["error"]
    assert error == {
        "what": "unknown field",
        "value": "functoin",
        "fix": "did you mean 'function'?",
        "file": "bedplate.yaml",
        "line": 3,
        "field": "jobs.hello.functoin",
    }


def test_a_path_that_cannot_be_used_is_one_line_too(hello: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BEDPLATE_STATE", str(tmp_path / "file"))
    said = refused(hello, "plan")
    assert f"File exists (got '{tmp_path / 'file'}')" in said
    assert "Fix: " in said


def test_wrong_usage_is_exit_code_2_and_names_the_help(hello: Path) -> None:
    for words in (["plan", "--nonsense"], ["logs"], ["run", "hello", "--set", "name"]):
        done = bedplate(hello, *words)
        assert done.returncode == 2, words
        assert f"bedplate {words[0]} --help" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_project_is_found_from_below_and_named_from_anywhere(hello: Path, tmp_path: Path) -> None:
    (hello / "deep" / "er").mkdir(parents=True)
    assert "hello" in bedplate(hello / "deep" / "er", "plan").stdout
    assert "hello" in bedplate(tmp_path, "plan", "-C", str(hello)).stdout


def test_every_command_has_a_summary_of_one_line() -> None:
    for name, entry in COMMANDS.items():
        assert entry.summary, name
        assert "\n" not in entry.summary, name
