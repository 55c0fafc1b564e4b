"""Files told by their content, made by the real libraries: what is safe, and what could run code."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tempfile
import zipfile
import zlib
from pathlib import Path

import joblib
import numpy
import pytest
import skops.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from sklearn.linear_model import LinearRegression

from bedplate.core.errors import DataError
from bedplate.models.packaging.formats import WEIGHTS, check_safetensors, examine


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1+1",)


def fitted() -> LinearRegression:
    return LinearRegression().fit(numpy.arange(6.0).reshape(3, 2), numpy.arange(3.0))


def onnx_bytes() -> bytes:
    """A graph of one input and one output, as onnx.proto has it."""

    def field(number: int, value: int | bytes) -> bytes:
        return bytes([number << 3, value]) if isinstance(value, int) else bytes([number << 3 | 2, len(value)]) + value

    shape = b"".join(field(1, part) for part in (field(2, b"n"), field(1, 4)))
    info = field(1, field(1, 1) + field(2, shape))
    graph = field(2, b"g") + field(11, field(1, b"x") + field(2, info)) + field(12, field(1, b"y") + field(2, info))
    return field(1, 10) + field(7, graph)


def test_safe_formats_are_known_by_their_content(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(2, 3)}, tmp_path / "model.safetensors")
    module = torch.nn.Linear(2, 1)
    torch.export.save(torch.export.export(module, (torch.zeros(3, 2),)), tmp_path / "model.pt2")
    skops.io.dump(fitted(), tmp_path / "model.skops")
    (tmp_path / "model.onnx").write_bytes(onnx_bytes())
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    (tmp_path / "model.xgb.json").write_text(json.dumps({"learner": {"feature_names": []}, "version": [3, 0, 0]}))
    (tmp_path / "model.lgb.txt").write_text("tree\nversion=v4\nnum_class=1\n")
    kinds = {path.name: examine(path).kind for path in tmp_path.iterdir()}
    assert kinds == {
        "model.safetensors": "safetensors",
        "model.pt2": "torch_export",
        "model.skops": "skops",
        "model.onnx": "onnx",
        "model.gguf": "gguf",
        "model.xgb.json": "xgboost",
        "model.lgb.txt": "lightgbm",
    }
    assert set(kinds.values()) <= set(WEIGHTS)


def unsafe(folder: Path) -> None:
    """Files that run code when the usual library loads them, each under an innocent name too."""
    data = pickle.dumps(Evil())
    (folder / "model.pkl").write_bytes(data)
    (folder / "weights.safetensors").write_bytes(data)
    (folder / "config.json").write_bytes(data)
    (folder / "old.pkl").write_bytes(pickle.dumps(Evil(), protocol=0))
    joblib.dump(fitted(), folder / "model.joblib")
    joblib.dump(fitted(), folder / "zlib.joblib", compress=("zlib", 3))
    for name, pack in (("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress), ("z", zlib.compress)):
        (folder / f"model.{name}").write_bytes(pack(data))
    torch.save(Evil, folder / "model.pt")
    torch.save({"only": torch.zeros(2)}, folder / "state.pt")
    torch.save({"only": torch.zeros(2)}, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.jit.script(torch.nn.Linear(2, 1)).save(str(folder / "script.pt"))
    numpy.save(folder / "objects.npy", numpy.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    numpy.savez(folder / "objects.npz", plain=numpy.zeros(2), objects=numpy.array([Evil()], dtype=object))
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": [{"class_name": "Lambda"}]}}))
        archive.writestr("model.weights.h5", b"\x89HDF")
    (folder / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + json.dumps({"class_name": "Lambda"}).encode())
    (folder / "modeling.py").write_text("import os\n")
    (folder / "kernel.bin").write_bytes(b"\x7fELF\x02")


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*TypedStorage.*:UserWarning")
def test_what_could_run_code_is_found_whatever_it_is_called(tmp_path: Path) -> None:
    unsafe(tmp_path)
    missed = [path.name for path in tmp_path.iterdir() if not examine(path).danger]
    assert missed == []
    assert "builtins.eval" in examine(tmp_path / "model.pkl").danger
    assert examine(tmp_path / "script.pt").danger == "TorchScript is a program"
    assert examine(tmp_path / "model.keras").danger == "a Lambda layer of Keras is Python code"
    assert examine(tmp_path / "objects.npy").danger == "an array of Python objects is a pickle"


def test_what_lies_beside_weights_is_data(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (tmp_path / "merges.txt").write_text("t h\n(a b)\n")
    (tmp_path / "list.txt").write_text("(one)\n")
    (tmp_path / "empty").touch()
    (tmp_path / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00")
    numpy.save(tmp_path / "plain.npy", numpy.zeros(3))
    numpy.savez(tmp_path / "plain.npz", a=numpy.zeros(3))
    assert {path.name: examine(path).kind for path in tmp_path.iterdir()} == dict.fromkeys(
        ["config.json", "merges.txt", "list.txt", "empty", "tokenizer.model", "plain.npy", "plain.npz"], "data"
    )


def test_damaged_weights_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"w": torch.zeros(2, 3), "b": torch.ones(2)}, path)
    header = check_safetensors(path)
    assert header["w"]["shape"] == [2, 3]
    whole = path.read_bytes()
    for damaged, why in (
        (whole[:-1], "do not fill it"),
        (whole + b"x", "do not fill it"),
        (whole.replace(b'"data_offsets":[0', b'"data_offsets":[1', 1), "overlap or leave gaps"),
        (b"\xff" * 8 + whole[8:], "longer than the file"),
        (whole[:8] + b"#" + whole[9:], "no JSON"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"{why}.*model\.safetensors"):
            examine(path)
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match=r"an archive is damaged.*broken\.zip"):
        examine(tmp_path / "broken.zip")


def test_a_torch_export_whose_example_inputs_hide_a_pickle_is_refused(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(torch.nn.Linear(2, 1), (torch.zeros(3, 2),)), tmp_path / "good.pt2")
    torch.save(Evil(), tmp_path / "inputs.pt")
    with zipfile.ZipFile(tmp_path / "good.pt2") as good, zipfile.ZipFile(tmp_path / "bad.pt2", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, (tmp_path / "inputs.pt").read_bytes() if "sample_inputs" in name else good.read(name))
    assert examine(tmp_path / "good.pt2").danger == ""
    assert "__builtin__.eval" in examine(tmp_path / "bad.pt2").danger


OLD = b"cos\nsystem\n(S'true'\ntR."


BEFORE = [b"", b"N0", b"I1\n0", b"F1.5\n0", b"S'x'\n0", b"K\x010", b"]0", b"}0", b"(1", b"\x80\x000", b"\x80\x010", b"G" + bytes(8) + b"0"]


@pytest.mark.parametrize("before", BEFORE)
def test_an_old_pickle_is_found_whatever_it_begins_with(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(before + OLD)
    assert examine(path).danger == "a pickle that calls os.system"
    path.write_bytes(before + OLD[:-1] + b"\xff")
    assert examine(path).danger == "a pickle that calls os.system", "it is called before the reader comes to what is broken"


PACKED = [gzip.compress, bz2.compress, lzma.compress, zlib.compress, lambda data: lzma.compress(data, lzma.FORMAT_ALONE)]


@pytest.mark.parametrize("pack", PACKED)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_compressed_pickle_is_found_in_every_packing_and_protocol(tmp_path: Path, pack: object, protocol: int) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(pack(pickle.dumps(Evil(), protocol=protocol)))  # type: ignore[operator] # a table of functions
    assert examine(path).danger == "a compressed pickle"
    path.write_bytes(pack(b"plain text, and more of it\n" * 50))  # type: ignore[operator] # as above
    assert examine(path).kind == "data"


@pytest.mark.parametrize("magic", [b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x5d\x00\x00", b"\x78"])
def test_what_only_looks_compressed_is_data(tmp_path: Path, magic: bytes) -> None:
    (tmp_path / "x").write_bytes(magic + b"and nothing of the kind")
    assert examine(tmp_path / "x").kind == "data"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run", b"#!/bin/sh\n"),
        ("x.txt", b"\x7fELF\x02\x01"),
        ("x.json", b"MZ\x90\x00"),
        ("x.bin", b"\xcf\xfa\xed\xfe"),
        ("x.class", b"\xca\xfe\xba\xbe"),
        ("x.wasm", b"\0asm\1\0\0\0"),
        ("modeling.py", b""),
        ("x.pyc", b"\x00"),
        ("kernel.so", b"text"),
        ("x.dll", b""),
        ("x.dylib", b""),
    ],
)
def test_programs_are_found_by_content_and_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert examine(tmp_path / name).danger == "it is a program"
    with zipfile.ZipFile(tmp_path / "packed.npz", "w") as archive:
        archive.writestr("plain.txt", "text")
        archive.writestr(f"deep/{name}", content)
    assert examine(tmp_path / "packed.npz").danger == "it is a program"


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("m.gguf", b"GGUF" + struct.pack("<IQ", 1, 0), "gguf"),
        ("m.bin", b"GGUF" + struct.pack("<IQ", 2, 0), "gguf"),
        ("m.gguf", b"GGUF" + struct.pack("<IQ", 4, 0), "data"),
        ("m.gguf", b"GGUF" + struct.pack("<I", 3), "data"),
        ("m.onnx", b"\x08\x0a", "data"),
        ("m.onnx", b"not a graph", "data"),
        ("m.txt", b"tree\nversion=v3\n", "lightgbm"),
        ("m.txt", b"tree\nand leaves\n", "data"),
        ("m.txt", b"trees\nversion=v3\n", "data"),
        ("m.json", b' \n{"learner": {}}', "xgboost"),
        ("m.json", b'{"other": "learner"}', "data"),
        ("m.json", b'{"learner": ', "data"),
        ("m.ubj", b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner", "xgboost"),
        ("m.ubj", b"{L\x00\x00\x00\x00\x00\x00\x00\x07teacher", "data"),
        ("x", b"", "data"),
    ],
)
def test_weights_are_told_by_their_first_bytes(tmp_path: Path, name: str, content: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert (examine(tmp_path / name).kind, examine(tmp_path / name).danger) == (kind, "")


@pytest.mark.parametrize(
    ("members", "kind", "danger"),
    [
        ({"config.json": b"{}", "model.weights.h5": b"\x89HDF"}, "keras", ""),
        ({"config.json": b'{"class_name": "Dense"}', "metadata.json": b"{}"}, "data", ""),
        ({"config.json": b'{"class_name":"Lambda"}', "model.weights.h5": b""}, "unsafe", "a Lambda layer of Keras is Python code"),
        ({"schema.json": b"{}", "1.npy": b"\x93NUMPY"}, "skops", ""),
        ({"archive/constants.pkl": b"x", "archive/data.pkl": b"x"}, "unsafe", "TorchScript is a program"),
        ({"m/code/__torch__.py": b"x"}, "unsafe", "TorchScript is a program"),
        ({"archive_format": b"pt2", "models/model.json": b"{}"}, "torch_export", ""),
        ({"a.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False}"}, "unsafe", "an array of Python objects is a pickle"),
        ({"a.npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False}"}, "data", ""),
        ({"deep/x": OLD}, "unsafe", "a pickle that calls os.system"),
        ({"deep/x": gzip.compress(OLD)}, "unsafe", "a compressed pickle"),
        ({}, "data", ""),
    ],
)
def test_archives_are_told_by_what_is_in_them(tmp_path: Path, members: dict[str, bytes], kind: str, danger: str) -> None:
    for packing in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "x", "w", packing) as archive:
            archive.writestr("first.txt", b"text")
            for name, content in members.items():
                archive.writestr(name, content)
        assert (examine(tmp_path / "x").kind, examine(tmp_path / "x").danger) == (kind, danger)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_an_archive_in_an_archive_hides_nothing(tmp_path: Path, depth: int) -> None:
    content = pickle.dumps(Evil())
    for _ in range(depth):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("inner", content)
        content = packed.getvalue()
    (tmp_path / "x.npz").write_bytes(content)
    assert examine(tmp_path / "x.npz").danger == "a pickle that calls builtins.eval"


def test_a_danger_names_four_of_its_calls(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"(" + b"".join(b"cm%d\nf\n" % number for number in range(6)) + b"t.")
    assert examine(tmp_path / "x").danger == "a pickle that calls m0.f, m1.f, m2.f, m3.f, ..."


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=4), st.lists(st.integers(0, 4), max_size=3), min_size=1), st.data())
def test_a_safetensors_file_fits_or_is_damaged(tensors: dict[str, list[int]], data: st.DataObject) -> None:
    content = save({name: torch.zeros(shape) for name, shape in tensors.items()})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        path.write_bytes(content)
        assert {name: each["shape"] for name, each in check_safetensors(path).items()} == tensors
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        with pytest.raises(DataError, match=r"the weights are damaged: .*m\.safetensors"):
            check_safetensors(path)
