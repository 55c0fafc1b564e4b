"""Versions and outputs: as people write them, and through JSON and back."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from bedplate.core.versions import Output, Version

META = st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.floats(allow_nan=False)), max_size=4)


def test_a_version_is_written_as_name_and_number() -> None:
    assert Version("delay", 7, "model", "0" * 64, "models/delay/7", "train-1", 0.0).ref == "delay@7"


@given(st.text(), st.integers(min_value=1), st.floats(allow_nan=False), META)
def test_a_version_comes_back_from_json(name: str, number: int, at_s: float, meta: dict[str, object]) -> None:
    version = Version(name, number, "table", "0" * 64, "lake/a", "run-1", at_s, meta)
    assert Version.from_json(json.loads(json.dumps(version.to_json()))) == version


@given(st.text(), META)
def test_an_output_comes_back_from_json(name: str, meta: dict[str, object]) -> None:
    output = Output(name, "model", "0" * 64, "out/a", meta)
    assert Output.from_json(json.loads(json.dumps(output.to_json()))) == output


def test_what_is_read_is_not_what_was_given() -> None:
    meta = {"rows": 1}
    output = Output.from_json({"name": "a", "kind": "file", "digest": "0" * 64, "location": "a", "meta": meta})
    meta["rows"] = 2
    assert output.meta == {"rows": 1}
