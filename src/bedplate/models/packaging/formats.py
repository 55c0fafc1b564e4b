"""Which files may be part of a model version: known safe formats are told by their content, what could run code is found by it.

A name decides nothing: a pickle called `model.safetensors` is a pickle. Safe: safetensors, ONNX, torch.export (.pt2), GGUF, XGBoost JSON
and UBJSON, LightGBM text, skops. Unsafe: pickles, in whatever they are wrapped (joblib, .pt, .npz with objects), TorchScript, Keras
files with a Lambda, and programs. All else is data that lies beside the weights.
Does not know: who vouched for a file, or how a version is laid out (`assemble`).
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickletools
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from bedplate.core.errors import DataError
from bedplate.models import wire
from bedplate.models.packaging.pickles import TENSORS, begins_like_one, called_before_the_end, globals_of

WEIGHTS = ("safetensors", "onnx", "torch_export", "gguf", "xgboost", "lightgbm", "skops", "keras")
_HEAD = 1 << 16
_LARGEST_HEADER = 100_000_000  # of safetensors, as its own library has it
_LARGEST_TEXT = 64_000_000
_OBJECT_ARRAY = re.compile(rb"'descr':\s*[^,]*\|O")
_LAMBDA = re.compile(rb'"class_name":\s*"Lambda"')
_OPCODES = frozenset(opcode.code.encode("latin-1") for opcode in pickletools.opcodes)
_PROGRAMS = (b"\x7fELF", b"MZ\x90\x00", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe", b"#!", b"\0asm")
_UNPACKED: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", lambda data: gzip.GzipFile(fileobj=io.BytesIO(data)).read(_HEAD)),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data, _HEAD)),
    (b"\xfd7zXZ", lambda data: lzma.LZMADecompressor().decompress(data, _HEAD)),
    (b"\x5d\x00\x00", lambda data: lzma.LZMADecompressor().decompress(data, _HEAD)),
    (b"\x78", lambda data: zlib.decompressobj().decompress(data, _HEAD)),
)


@dataclass(frozen=True)
class Format:
    """What a file is: one of WEIGHTS, "data", or with `danger` (what it could do) something that is not to be loaded."""

    kind: str
    danger: str = ""


def examine(path: Path) -> Format:
    """What the file at `path` is, by its content. Raises DataError for a file of a known kind that is damaged."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"PK\x03\x04"):
        with path.open("rb") as file:
            return _zip(file)
    if danger := _danger(head, lambda: path.open("rb"), path.name):
        return Format("unsafe", danger)
    return Format(_weights(path, head) or "data")


def _danger(head: bytes, opened: Callable[[], IO[bytes]], name: str) -> str:
    """What is dangerous about bytes that are no zip archive; empty for nothing that is known."""
    if any(head.startswith(magic) for magic in _PROGRAMS) or name.endswith((".py", ".pyc", ".so", ".dll", ".dylib")):
        return "it is a program"
    if begins_like_one(head):
        with opened() as file:
            found = globals_of(file)
        return _names(found) if found else "a pickle"
    if head.startswith(b"\x93NUMPY") and _OBJECT_ARRAY.search(head[:4096]):
        return "an array of Python objects is a pickle"
    if head.startswith(b"\x89HDF"):
        with opened() as file:
            return "a Lambda layer of Keras is Python code" if _LAMBDA.search(file.read()) else ""
    for magic, unpack in _UNPACKED:
        if head.startswith(magic):
            unpacked = _unpacked(unpack, head)
            if begins_like_one(unpacked) or globals_of(unpacked) or called_before_the_end(unpacked):
                return "a compressed pickle"
    if head[:1] in _OPCODES:  # protocols 0 and 1 have no mark of their own, and may begin with any opcode
        with opened() as file:
            found = globals_of(file)
        if found is None:
            with opened() as file:
                found = called_before_the_end(file)
        return _names(found) if found else ""
    return ""


def _names(found: frozenset[str]) -> str:
    listed = sorted(found)
    return f"a pickle that calls {', '.join(listed[:4])}{', ...' if len(listed) > 4 else ''}"


def _unpacked(unpack: Callable[[bytes], bytes], data: bytes) -> bytes:
    try:
        return unpack(data)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return b""  # it only looked compressed


def _zip(file: IO[bytes]) -> Format:
    try:
        with zipfile.ZipFile(file) as archive:
            return _archive(archive)
    except (zipfile.BadZipFile, NotImplementedError, zlib.error, RuntimeError) as error:
        raise DataError(f"an archive is damaged: {error}", value=getattr(file, "name", None), fix="fetch or write it again") from error


def _archive(archive: zipfile.ZipFile) -> Format:
    names = archive.namelist()
    lower = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in lower or any("/code/" in name for name in names):
        return Format("unsafe", "TorchScript is a program")
    exported = "archive_format" in lower
    for name in names:
        with archive.open(name) as member:
            head = member.read(_HEAD)
        if exported and head.startswith(b"PK\x03\x04") and "/sample_inputs/" in name:
            if extra := _beyond_tensors(archive.read(name)):
                return Format("unsafe", extra)
            continue
        inner = Format("data", _danger(head, partial(archive.open, name), name))
        if head.startswith(b"PK\x03\x04"):
            inner = _zip(io.BytesIO(archive.read(name)))
        if inner.danger:
            return Format("unsafe", inner.danger)
        if name.endswith("config.json") and _LAMBDA.search(archive.read(name)):
            return Format("unsafe", "a Lambda layer of Keras is Python code")
    if exported:
        return Format("torch_export")
    if "schema.json" in lower:
        return Format("skops")
    return Format("keras" if {"config.json", "model.weights.h5"} <= lower else "data")


def _beyond_tensors(data: bytes) -> str:
    """What the pickle of a torch.save archive calls beyond what makes tensors: torch.export keeps its example inputs in one."""
    with zipfile.ZipFile(io.BytesIO(data)) as inner:
        for name in inner.namelist():
            content = inner.read(name)
            if begins_like_one(content):
                found = globals_of(content)
                if found is None or found - TENSORS:
                    return _names((found or frozenset()) - TENSORS) if found else "a pickle"
    return ""


def _weights(path: Path, head: bytes) -> str:
    """The kind of weights in a file that is no archive; empty for none that is known."""
    if head.startswith(b"GGUF") and len(head) > 8 and 1 <= struct.unpack("<I", head[4:8])[0] <= 3:
        return "gguf"
    if path.suffix == ".safetensors":
        check_safetensors(path)
        return "safetensors"
    if path.suffix == ".onnx":
        return "onnx" if _is_onnx(path) else ""
    if head.startswith(b"tree\n") and b"version=" in head[:256]:
        return "lightgbm"
    if head.lstrip()[:1] == b"{" and b'"learner"' in head and path.stat().st_size <= _LARGEST_TEXT:
        return "xgboost" if _is_xgboost(path.read_bytes()) else ""
    if head.startswith(b"{L") and b"learner" in head[:64]:
        return "xgboost"
    return ""


def check_safetensors(path: Path) -> dict[str, dict[str, object]]:
    """The header of a safetensors file: {tensor: {dtype, shape, data_offsets}}, once it is known to fit the file.

    Raises DataError, naming the file, where it does not (https://huggingface.co/docs/safetensors).
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _LARGEST_HEADER):
            raise _damaged(path, "its header is longer than the file")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise _damaged(path, "its header is no JSON") from error
    header.pop("__metadata__", None)
    at = 0
    for tensor in sorted(header.values(), key=lambda each: each["data_offsets"]):
        begin, end = tensor["data_offsets"]
        if begin != at or end < begin:
            raise _damaged(path, "its tensors overlap or leave gaps")
        at = end
    if at != size - 8 - length:
        raise _damaged(path, "its tensors do not fill it")
    return dict(header)


def _is_onnx(path: Path) -> bool:
    try:
        found = {field.number for field in wire.fields(path.read_bytes())}
    except DataError:
        return False
    return 1 in found and 7 in found  # ir_version and graph


def _is_xgboost(data: bytes) -> bool:
    try:
        return "learner" in json.loads(data)
    except ValueError:
        return False


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"the weights are damaged: {why}", value=str(path), fix="fetch or write them again")
