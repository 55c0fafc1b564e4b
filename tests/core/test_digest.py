"""Digests: equal values have equal digests, any change is seen, and the digests are those of the published functions."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.core.digest import DIGEST_CHARS, canonical, digest, digest_bytes, digest_file, digest_files

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_the_canonical_form_is_json_of_the_same_value(value: object) -> None:
    assert json.loads(canonical(value)) == value


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers(), min_size=2))
def test_the_order_of_keys_does_not_count(value: dict[str, int]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


@given(st.lists(st.integers(), min_size=2, unique=True))
def test_the_order_of_a_list_counts(value: list[int]) -> None:
    assert digest(value) != digest(value[::-1])


def test_the_canonical_form_is_fixed() -> None:
    assert canonical({"b": [1, 2.5, None], "a": "é\n"}) == '{"a":"é\\n","b":[1,2.5,null]}'.encode()
    assert digest({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [float("-inf")]}])
def test_what_has_no_json_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical(value)


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", Path("a")])
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical(value)


def test_bytes_are_named_by_sha256() -> None:
    assert digest_bytes(b"") == hashlib.sha256(b"").hexdigest()
    assert len(digest_bytes(b"x")) == DIGEST_CHARS


def test_a_file_is_named_by_blake3(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")  # published test vectors of BLAKE3: no input, and 102400 bytes that count from 0 to 250
    assert digest_file(path) == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    path.write_bytes(bytes(number % 251 for number in range(102400)))
    assert digest_file(path) == "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"
    with pytest.raises(FileNotFoundError):
        digest_file(tmp_path / "nowhere")


def test_a_folder_is_named_by_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    both = digest_files(tmp_path, ["a", "b"])
    assert digest_files(tmp_path, iter(["b", "a"])) == both
    assert digest_files(tmp_path, ["a"]) != both
    (tmp_path / "a").write_text("2")
    (tmp_path / "b").write_text("1")
    assert digest_files(tmp_path, ["a", "b"]) != both
    assert digest_files(tmp_path, []) == digest([])
