"""A model version as files: weights, fitted preprocessing, signature, and a manifest by which any change is found.

The manifest names the SHA-256 of each file, the libraries and the parameters; its own SHA-256 is the version's digest. Nothing here is
ever unpickled.
Does not know: the registry, numbers of versions, or the network's code, which the user's `predict` and `evaluate` bring.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file

from bedplate.core.atomic import sync, write_bytes, write_json
from bedplate.core.digest import digest_bytes
from bedplate.core.errors import CheckpointError, JobError
from bedplate.core.protocols import Feed
from bedplate.train.preprocess import Arrays, Columns, Dictionary, Preprocessing, Signature

WEIGHTS_FILE = "model.safetensors"
PREPROCESSING_FILE = "preprocessing.json"
SIGNATURE_FILE = "signature.json"
TOKENIZER_FILE = "tokenizer.json"
MANIFEST_FILE = "manifest.json"

Batch = dict[str, torch.Tensor]


def save_model(
    folder: Path, weights: Mapping[str, torch.Tensor], preprocessing: Preprocessing, params: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Write a model, of which `weights` is the state dict, to `folder` in one rename, in place of what lies there.

    Returns its digest and the manifest.
    """
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    # cloned: tied weights share memory, which the format does not have
    apart = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()}
    save_file(apart, beside / WEIGHTS_FILE)
    fitted = preprocessing.to_json()
    tokenizer = fitted.pop("tokenizer", None)  # in a file of its own, as other tools read it
    if tokenizer is not None:
        write_bytes(beside / TOKENIZER_FILE, tokenizer.encode())
    write_json(beside / PREPROCESSING_FILE, fitted)
    write_json(beside / SIGNATURE_FILE, preprocessing.signature.to_json())
    names = (WEIGHTS_FILE, PREPROCESSING_FILE, SIGNATURE_FILE, *([TOKENIZER_FILE] if tokenizer is not None else []))
    libraries = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "safetensors": safetensors.__version__,
    }
    files = {name: {"sha256": _sha256(beside / name), "bytes": (beside / name).stat().st_size} for name in names}
    manifest = {"format": 1, "files": files, "libraries": libraries, "params": dict(params)}
    data = json.dumps(manifest, indent=1, sort_keys=True).encode()
    write_bytes(beside / MANIFEST_FILE, data)
    sync(beside / WEIGHTS_FILE)
    shutil.rmtree(folder, ignore_errors=True)
    beside.rename(folder)
    sync(folder.parent)
    return digest_bytes(data), manifest


class ModelVersion:
    """A saved model, for `evaluate` and `predict`. Safe to use from several threads."""

    def __init__(self, folder: Path, *, digest: str | None = None, device: str = "cpu") -> None:
        """Open and verify. Raises CheckpointError, naming the file, when anything is missing or changed (`digest` covers the manifest)."""
        self.folder = folder
        self._device = torch.device(device)
        self._lock = Lock()
        self._module: torch.nn.Module | None = None
        data = _read(folder / MANIFEST_FILE)
        if digest is not None and digest_bytes(data) != digest:
            raise CheckpointError("a model's manifest was changed", value=str(folder / MANIFEST_FILE))
        self._manifest: dict[str, Any] = json.loads(data)
        for name, facts in self._manifest["files"].items():
            if not (folder / name).is_file() or _sha256(folder / name) != facts["sha256"]:
                raise CheckpointError("a model's file is missing or damaged", value=str(folder / name), fix="roll back, or train it again")
        fitted = json.loads(_read(folder / PREPROCESSING_FILE))
        if TOKENIZER_FILE in self._manifest["files"]:
            fitted["tokenizer"] = _read(folder / TOKENIZER_FILE).decode()
        self.preprocessing = Preprocessing.from_json(fitted)
        self.signature: Signature = self.preprocessing.signature

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters that it was trained with."""
        params: Mapping[str, Any] = self._manifest["params"]
        return params

    def module(self, build: Callable[[], torch.nn.Module]) -> torch.nn.Module:
        """The network with its weights, in evaluation mode and without gradients. Built by `build` once; later calls return the same.

        Raises JobError when the weights are not those of what `build` builds.
        """
        with self._lock:
            if self._module is None:
                module = build()
                weights = load_file(self.folder / WEIGHTS_FILE)
                try:
                    module.load_state_dict(weights, strict=True)
                except RuntimeError as error:
                    fix = "build the network that was trained: the same code, signature and params"
                    raise JobError(f"the weights do not fit the network: {' '.join(str(error).split())}", fix=fix) from error
                self._module = module.to(self._device).eval().requires_grad_(False)
            return self._module

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> Batch:
        """Rows of raw values by column name, as the tensors that training saw (without a label). Raises DataError."""
        return self._tensors(self.preprocessing.encode_rows(rows))

    def encode_columns(self, columns: Columns, dictionary: Dictionary) -> Batch:
        """Arrays of a feed, as tensors: `version.encode_columns(feed.columns("test"), feed.dictionary)`. Raises DataError."""
        return self._tensors(self.preprocessing.encode_columns(columns, dictionary))

    def batches(self, feed: Feed, split: str, batch_size: int = 65_536) -> Iterator[Batch]:
        """A split of a feed in order, whole, with its label, at most `batch_size` rows at a time."""
        encoder = self.preprocessing.encoder(feed.dictionary)
        for columns in feed.in_order(split, batch_size):
            yield self._tensors(encoder.encode(columns))

    def _tensors(self, arrays: Arrays) -> Batch:
        return {name: torch.from_numpy(array).to(self._device) for name, array in arrays.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError("a model's file cannot be read", value=str(path)) from error
