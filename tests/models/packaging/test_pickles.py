"""What a pickle would import is found without reading it; one that hides a name is not believed."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.models.packaging.pickles import TENSORS, UNKNOWN, begins_like_one, called_before_the_end, globals_of


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


class Holds:
    """An object of any state."""

    def __init__(self, state: object) -> None:
        self.state = state


class Reduced(Holds):
    """One that is made again by a call."""

    def __reduce__(self) -> tuple[object, tuple[object]]:
        return Reduced, (self.state,)


nested = st.recursive(plain, lambda inner: st.builds(Holds, inner) | st.builds(Reduced, inner) | st.lists(inner, max_size=3), max_leaves=6)


@settings(deadline=None, max_examples=100)
@given(nested, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_every_import_of_nested_objects_is_found_in_every_protocol(value: object, protocol: int) -> None:
    data = pickle.dumps([value, value], protocol=protocol, fix_imports=False)
    finder = Finder(data)
    finder.load()
    found = globals_of(data)
    assert found is not None
    assert finder.found <= found
    assert globals_of(io.BytesIO(data)) == found


@settings(deadline=None, max_examples=100)
@given(nested, st.integers(2, pickle.HIGHEST_PROTOCOL), st.data())
def test_a_cut_one_is_no_whole_pickle_and_what_follows_one_changes_nothing(value: object, protocol: int, data: st.DataObject) -> None:
    whole = pickle.dumps(value, protocol=protocol)
    assert globals_of(whole[: data.draw(st.integers(0, len(whole) - 1))]) is None
    assert globals_of(whole + data.draw(st.binary(max_size=20))) == globals_of(whole)
    assert begins_like_one(whole) or len(whole) < 3


pieces = st.sampled_from(
    [
        *(b"cos\nsystem\n", b"cposix\nsystem\n", b"ios\nsystem\n", b"\x8c\x02os", b"\x8c\x06system", b"\x93", b"\x94", b"h\x00"),
        *(
            b"(",
            b")",
            b"N",
            b"S'true'\n",
            b"K\x01",
            b"t",
            b"R",
            b"o",
            b"\x81",
            b"b",
            b"0",
            b"1",
            b"2",
            b"]",
            b"}",
            b"a",
            b"e",
            b".",
            b"\xff",
        ),
    ]
)


@settings(deadline=None, max_examples=400)
@given(st.lists(pieces, max_size=12))
def test_what_the_library_calls_before_it_fails_is_found(opcodes: list[bytes]) -> None:
    data = b"".join(opcodes)
    called: list[object] = []

    class Asked(pickle.Unpickler):
        def find_class(self, _module: str, _name: str) -> object:
            return lambda *given: called.append(given)

    with contextlib.suppress(Exception):  # the library raises many kinds for bytes that are no pickle
        Asked(io.BytesIO(data)).load()
    assert not called or globals_of(data) or called_before_the_end(data)


@pytest.mark.parametrize("end", [b"", b"\xff", b"R", b"cnot", b"\x95"])
def test_a_call_is_found_though_the_pickle_breaks_after_it(end: bytes) -> None:
    assert globals_of(b"cos\nsystem\n(S'true'\ntR" + end) is None
    assert called_before_the_end(b"cos\nsystem\n(S'true'\ntR" + end) == {"os.system"}
    assert called_before_the_end(b"(S'true'\nios\nsystem\n" + end) == {"os.system"}


@pytest.mark.parametrize(
    "text", ["cat\ndog\nRain\n", "come in\nfor free\nNR\n", "in the\nbeginning\n", "(in the\nbeginning\n", "call\nme", ""]
)
def test_text_that_looks_like_opcodes_calls_nothing(text: str) -> None:
    assert called_before_the_end(text.encode()) == frozenset()


@pytest.mark.parametrize(
    ("opcodes", "found"),
    [
        (b"cos\nsystem\n.", {"os.system"}),
        (b"(S'true'\nios\nsystem\n.", {"os.system"}),
        (b"cos.path\njoin\n.", {"os.path.join"}),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", {"os.system"}),
        (b"\x80\x04\x8c\x07os.path\x8c\x04join\x93.", {"os.path.join"}),
        (b"\x80\x04X\x02\x00\x00\x00os\x8d\x06\x00\x00\x00\x00\x00\x00\x00system\x93.", {"os.system"}),
        (b"\x80\x04Vos\nVsystem\n\x93.", {"os.system"}),
        (b"\x80\x04\x8c\x06system\x93.", {UNKNOWN}),
        (b"\x80\x04\x8c\x02os\x94h\x00\x8c\x06system\x93.", {"os.system"}),
        (b"\x80\x04\x8c\x02os0N\x8c\x06system\x93.", {UNKNOWN}),
        (b"\x80\x04\x8c\x02osN0\x8c\x06system\x93.", {UNKNOWN}),
        (b"\x80\x02\x83\x01\x00.", {UNKNOWN}),
        (b"\x80\x02\x84\x01\x00\x00\x00.", {UNKNOWN}),
        (b"\x80\x04\x8c\x02osp0\n0g0\n\x8c\x06system\x93.", {"os.system"}),
        (b"\x80\x04\x8c\x02osp0\nN0p0\ng0\n\x8c\x06system\x93.", {UNKNOWN}),
        (b"N.", set()),
        (b"\x80\x04]\x94.", set()),
    ],
)
def test_names_by_every_way_of_the_opcodes(opcodes: bytes, found: set[str]) -> None:
    assert globals_of(opcodes) == found


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x04", b"\x80\x01.", b"\x80\x06.", b"\x81\x04.", b"PK\x03\x04"])
def test_what_does_not_begin_like_a_pickle(data: bytes) -> None:
    assert not begins_like_one(data)
