"""The first difference between two folders: file, array, key or line, with numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from bedplate.flow.differing import first_difference


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal folders."""
    for name in ("before", "after"):
        folder = tmp_path / name
        (folder / "sub").mkdir(parents=True)
        save_file({"bias": np.zeros(3, np.float32), "weight": np.arange(6, dtype=np.float32).reshape(2, 3)}, folder / "model.safetensors")
        np.save(folder / "sub" / "codes.npy", np.arange(5))
        (folder / "facts.json").write_text(json.dumps({"lr": 0.1, "names": ["a", "b"], "packages": {"numpy": "2.0"}}))
        (folder / "notes.txt").write_text("one\ntwo\nthree\n")
        (folder / "manifest.json").write_text("{}")
    return tmp_path / "before", tmp_path / "after"


def test_equal_folders_do_not_differ(pair: tuple[Path, Path]) -> None:
    assert first_difference(*pair) == ""


def test_an_array_is_named_with_how_far_it_is_apart(pair: tuple[Path, Path]) -> None:
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    weight[1, 2] += 0.5
    save_file({"bias": np.zeros(3, np.float32), "weight": weight}, pair[1] / "model.safetensors")
    assert first_difference(*pair) == "the file model.safetensors differs: the array weight differs in 1 of 6 values, at most by 0.5"


def test_arrays_that_came_went_or_changed_shape(pair: tuple[Path, Path]) -> None:
    save_file({"bias": np.zeros(3, np.float32)}, pair[1] / "model.safetensors")
    assert "the array weight is missing" in first_difference(*pair)
    save_file({"bias": np.zeros(4, np.float32), "weight": np.zeros((2, 3), np.float32)}, pair[1] / "model.safetensors")
    assert "the array bias is float32[3], then float32[4]" in first_difference(*pair)
    save_file({"added": np.zeros(1), "bias": np.zeros(3, np.float32)}, pair[1] / "model.safetensors")
    assert "the array added is new" in first_difference(*pair)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"lr": 0.2, "names": ["a", "b"], "packages": {"numpy": "2.0"}}, "lr was 0.1 and is 0.2"),
        ({"lr": 0.1, "names": ["a", "c"], "packages": {"numpy": "2.0"}}, 'names[1] was "b" and is "c"'),
        ({"lr": 0.1, "names": ["a", "b"], "packages": {"numpy": "2.1"}}, 'packages.numpy was "2.0" and is "2.1"'),
        ({"lr": 0.1, "names": ["a", "b"]}, 'packages was {"numpy": "2.0"} and is null'),
    ],
)
def test_json_is_compared_key_by_key(pair: tuple[Path, Path], changed: object, said: str) -> None:
    (pair[1] / "facts.json").write_text(json.dumps(changed))
    assert first_difference(*pair) == f"the file facts.json differs: {said}"


def test_text_arrays_of_numpy_and_files_of_one_side(pair: tuple[Path, Path]) -> None:
    (pair[1] / "notes.txt").write_text("one\nTwo\nthree\n")
    assert first_difference(*pair) == "the file notes.txt differs: from byte 4 (line 2) on, of 14 and 14 bytes"
    (pair[1] / "notes.txt").unlink()
    assert first_difference(*pair) == "the file notes.txt is missing"
    (pair[0] / "notes.txt").unlink()
    np.save(pair[1] / "sub" / "codes.npy", np.arange(5) * 2)
    assert "sub/codes.npy differs: the array it differs in 4 of 5 values" in first_difference(*pair)


def test_what_names_digests_of_others_comes_last(pair: tuple[Path, Path]) -> None:
    (pair[1] / "manifest.json").write_text('{"a": 1}')
    assert first_difference(*pair) == "the file manifest.json differs: a was null and is 1"
    (pair[1] / "notes.txt").write_text("x")
    assert "notes.txt" in first_difference(*pair)


def test_two_files_are_compared_as_such(pair: tuple[Path, Path]) -> None:
    (pair[1] / "notes.txt").write_text("one\ntwo\nthree")
    assert first_difference(pair[0] / "notes.txt", pair[1] / "notes.txt") == (
        "the file notes.txt differs: from byte 13 (line 3) on, of 14 and 13 bytes"
    )
