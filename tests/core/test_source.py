"""The project file as text: plain values, the line of every field, and one placed error for whatever is no such file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import SpecError
from bedplate.core.source import parse, parse_value, read

TEXT = """\
# a comment
project: flights
jobs:
  train:
    params: {lr: 1.0e-3,
             epochs: 2}
    outputs:
      - a.txt
      - b.txt
"""


def test_every_field_has_its_line() -> None:
    source = parse(TEXT, "bedplate.yaml")
    lines = {
        ("project",): 2,
        ("jobs",): 3,
        ("jobs", "train"): 4,
        ("jobs", "train", "params"): 5,
        ("jobs", "train", "params", "lr"): 5,
        ("jobs", "train", "params", "epochs"): 6,
        ("jobs", "train", "outputs"): 7,
        ("jobs", "train", "outputs", 0): 8,
        ("jobs", "train", "outputs", 1): 9,
    }
    assert {path: source.lines[path] for path in lines} == lines
    assert source.values["jobs"]["train"]["outputs"] == ["a.txt", "b.txt"]


def test_a_field_that_is_not_there_has_the_line_of_what_is_around_it() -> None:
    source = parse(TEXT, "bedplate.yaml")
    assert source.line(("jobs", "train", "inputs", "spine")) == 4
    assert source.line(("models",)) == 2
    error = source.error(("jobs", "train", "outputs", 1), "wrong", value="b.txt", fix="mend it")
    assert error.one_line() == "bedplate.yaml:9: jobs.train.outputs.1: wrong (got 'b.txt'). Fix: mend it"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("3e-4", 0.0003),
        ("1E5", 100000.0),
        ("-1.5e+3", -1500.0),
        (".5e1", 5.0),
        ("1.0e-3", 0.001),
        ("0.1", 0.1),
        ("7", 7),
        ("true", True),
        ("null", None),
        ("1e", "1e"),
        ("e5", "e5"),
        ("1e5x", "1e5x"),
        ("0..4", "0..4"),
        ("'1e-3'", "1e-3"),
        ("adam", "adam"),
    ],
)
def test_a_value_as_people_write_it(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert type(parse_value(text)) is type(value)
    assert parse(f"a: {text}", "f").values == {"a": value}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_that_python_prints_is_read_as_that_number(number: float) -> None:
    assert parse_value(repr(number)) == number


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "holds no mapping"),
        ("- a\n- b\n", 1, "holds no mapping"),
        ("just text", 1, "holds no mapping"),
        ("a: [1, 2\nb: 3\n", 2, "not valid YAML"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("a: 'x\n", 2, "not valid YAML"),
        ("a: 1\nb: {c: 1}}\n", 2, "not valid YAML"),
        ("a: *nobody\n", 1, "undefined alias"),
        ("a: 1\n---\nb: 2\n", 2, "another document"),
        ("a: 1\nb: !!python/name:os.system x\n", 2, "could not determine a constructor"),
        ("a: 1\nb: 2013-13-45\n", 2, "month must be in 1..12"),
        ("a: 1\nb:\n  - 0x_\n", 3, "invalid literal"),
        ("a: 1\nb: \x00\n", 2, "a control character"),
        ("? [a]\n: 1\n", 1, "unhashable key"),
        ("a: &a\n  b: *a\n", 1, "contains itself"),
        ("a: " + "[" * 3000 + "]" * 3000, 1, "nested too deep"),
    ],
)
def test_what_is_no_project_file_is_one_error_with_its_line(text: str, line: int, what: str) -> None:
    with pytest.raises(SpecError, match=what) as caught:
        parse(text, "bedplate.yaml")
    assert (caught.value.file, caught.value.line) == ("bedplate.yaml", line)
    assert caught.value.fix


@pytest.mark.parametrize(
    ("text", "line", "field", "fix"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "a", "keep one of lines 1 and 3"),
        ("jobs:\n  x: {}\n  y: {}\n  x: {}\n", 4, "jobs.x", "keep one of lines 2 and 4"),
        ("a: {b: 1, b: 2}\n", 1, "a.b", "keep one of lines 1 and 1"),
        ("a:\n  - b: 1\n    b: 1\n", 3, "a.0.b", "keep one of lines 2 and 3"),
    ],
)
def test_a_field_given_twice(text: str, line: int, field: str, fix: str) -> None:
    with pytest.raises(SpecError, match="given twice") as caught:
        parse(text, "bedplate.yaml")
    assert (caught.value.line, caught.value.field, caught.value.fix) == (line, field, fix)


def test_shared_parts_may_be_named_once() -> None:
    values = parse("base: &base {lr: 1}\na: *base\nb: {<<: *base, epochs: 2}\n", "f").values
    assert values["a"] == {"lr": 1}
    assert values["b"] == {"lr": 1, "epochs": 2}


@settings(max_examples=300)
@given(st.text(st.sampled_from("ab:-[]{}&*!|>'\"#%@,? \n\t\x00\x85é1.e~<="), max_size=40))
def test_any_text_is_a_file_or_a_placed_error(text: str) -> None:
    try:
        source = parse(text, "f")
    except SpecError as error:
        assert 1 <= error.line <= text.count("\n") + text.count("\x85") + 2
        assert error.fix
    else:
        assert isinstance(source.values, dict)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no project file here") as caught:
        read(tmp_path / "bedplate.yaml")
    assert "bedplate init" in (caught.value.fix or "")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "bedplate.yaml").write_bytes(b"project: \xff\xfe")
    with pytest.raises(SpecError, match="not UTF-8"):
        read(tmp_path / "bedplate.yaml")


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "bedplate.yaml").mkdir()
    with pytest.raises(SpecError, match="cannot be read"):
        read(tmp_path / "bedplate.yaml")


def test_an_error_names_the_file_and_not_its_folder(tmp_path: Path) -> None:
    (tmp_path / "bedplate.yaml").write_text("a: 1\na: 2\n")
    with pytest.raises(SpecError) as caught:
        read(tmp_path / "bedplate.yaml")
    assert caught.value.file == "bedplate.yaml"
