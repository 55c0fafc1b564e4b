"""A tree's manifest: DVC's bytes, and nothing taken from one that is damaged or leads outside."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedplate.core.errors import DataError
from bedplate.data.trees.manifest import from_bytes, is_inside, md5_of, name_of, to_bytes
from data.trees.facts import FILES, MANIFEST

NAMES = st.lists(st.text(st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=3).map(
    "/".join
)


def test_the_bytes_and_the_name_are_those_that_dvc_writes() -> None:
    files = {name: md5_of(data) for name, data in {**FILES, "link": b"one"}.items()}
    assert to_bytes(files) == MANIFEST
    assert name_of(MANIFEST) == "80685e5073a7ab27937cdccf4eec41e3.dir"
    assert from_bytes(MANIFEST, name_of(MANIFEST)) == files


@given(st.dictionaries(NAMES.filter(is_inside), st.binary().map(md5_of), max_size=5))
def test_a_manifest_comes_back_as_it_was(files: dict[str, str]) -> None:
    data = to_bytes(files)
    assert from_bytes(data, name_of(data)) == files


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "a//b", "", ".", "a\0b", "a\\..\\b"])
def test_a_path_that_leads_outside_is_refused(path: str) -> None:
    data = json.dumps([{"md5": md5_of(b""), "relpath": path}]).encode()
    with pytest.raises(DataError, match="names what is no file of it"):
        from_bytes(data, name_of(data))


def test_damaged_bytes_are_refused() -> None:
    with pytest.raises(DataError, match="is damaged"):
        from_bytes(MANIFEST.replace(b"a.txt", b"b.txt"), name_of(MANIFEST))
    for data in (b"{}1", b'{"a": 1}', b"[3]", b'[{"md5": 3}]'):
        with pytest.raises(DataError, match="is not a list of files"):
            from_bytes(data, name_of(data))
    named = json.dumps([{"md5": "../../x", "relpath": "a"}]).encode()
    with pytest.raises(DataError, match="no file of it"):
        from_bytes(named, name_of(named))
