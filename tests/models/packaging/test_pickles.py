"""What a pickle would import is found without reading it; one that hides a name is not believed."""

from __future__ import annotations

import collections
import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.models.packaging.pickles import TENSORS, UNKNOWN, begins_like_one, globals_of


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo caught > /dev/null",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_would_be_called_is_named_in_every_protocol(protocol: int) -> None:
    assert globals_of(pickle.dumps(Evil(), protocol=protocol)) == {"posix.system"}
    found = globals_of(pickle.dumps([collections.OrderedDict(a=1), Path("x"), Path("y")], protocol=protocol))
    assert found is not None
    assert "collections.OrderedDict" in found
    assert any(name.startswith("pathlib") for name in found)
    assert globals_of(pickle.dumps({"plain": [1, 2.5, None, "text"]}, protocol=protocol)) == frozenset()


def test_nothing_is_executed_and_a_file_is_read_as_bytes_are(tmp_path: Path) -> None:
    class Writes:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return os.mkdir, (str(tmp_path / "made"),)

    assert globals_of(io.BytesIO(pickle.dumps(Writes()))) == {"posix.mkdir"}
    assert not (tmp_path / "made").exists()


def test_a_name_that_is_computed_is_unknown() -> None:
    # PROTO 4, then two strings that say torch.Size, popped again, over two that say os.system
    hidden = b"\x80\x04\x8c\x02os\x8c\x06system\x8c\x05torch\x8c\x04Size00\x93."
    assert globals_of(hidden) == {UNKNOWN}
    memoized = b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93."
    assert globals_of(memoized) == {"os.system"}
    extension = b"\x80\x02\x82\x01."
    assert globals_of(extension) == {UNKNOWN}


def test_bytes_that_are_no_pickle_or_one_cut_short() -> None:
    whole = pickle.dumps(Evil())
    assert globals_of(whole[:-8]) is None
    assert globals_of(b"just text, no pickle") is None
    assert begins_like_one(whole)
    assert not begins_like_one(b"\x80\x09..")
    assert not begins_like_one(b"{}")


def test_a_state_dict_calls_what_makes_tensors_only(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2), "b": torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))}, tmp_path / "weights.pt")
    with zipfile.ZipFile(tmp_path / "weights.pt") as archive:
        [name] = [name for name in archive.namelist() if name.endswith("data.pkl")]
        found = globals_of(archive.read(name))
    assert found
    assert found <= TENSORS


class Finder(pickle.Unpickler):
    """The library's own answer to what a pickle imports; it imports nothing."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.found: set[str] = set()

    def find_class(self, module: str, name: str) -> object:
        self.found.add(f"{module}.{name}")
        return super().find_class(module, name)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
things = st.sampled_from([collections.OrderedDict, Path, complex, frozenset, bytearray, collections.Counter, range, slice])


@settings(deadline=None, max_examples=200)
@given(st.lists(plain | things.map(lambda kind: kind), max_size=4), st.integers(2, pickle.HIGHEST_PROTOCOL))
def test_the_names_are_those_that_the_library_asks_for(values: list[object], protocol: int) -> None:
    data = pickle.dumps(values, protocol=protocol, fix_imports=False)
    finder = Finder(data)
    finder.load()
    assert globals_of(data) == finder.found
