"""A model version as files: weights, fitted preprocessing, signature, and a manifest by which any change is found.

The manifest names the SHA-256 of each file, the libraries and the parameters; its own SHA-256 is the version's digest. Beside the weights
lie the signature, an example and the locked environment. Nothing here is ever unpickled.
Does not know: the registry, numbers of versions, or the network's code, which the user's `predict` and `evaluate` bring.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file

from bedplate.core.atomic import write_bytes, write_json
from bedplate.core.errors import JobError
from bedplate.core.imported import environment_lock
from bedplate.core.loading import Entry, load
from bedplate.core.package import ENVIRONMENT_FILE, EXAMPLE_FILE, SIGNATURE_FILE, beside, open_package, read_file, seal
from bedplate.core.protocols import Feed
from bedplate.train.described import described, example
from bedplate.train.preprocess import Arrays, Columns, Dictionary, Preprocessing, Signature

WEIGHTS_FILE = "model.safetensors"
ESTIMATOR_FILE = "model.skops"
PREPROCESSING_FILE = "preprocessing.json"
TOKENIZER_FILE = "tokenizer.json"

Batch = dict[str, torch.Tensor]

ESTIMATORS: Mapping[str, Entry] = {
    "write": Entry("bedplate.train.runtimes.estimator:write", "an estimator of scikit-learn as a skops file", "sklearn"),
    "read": Entry("bedplate.train.runtimes.estimator:read", "a skops file as an estimator of scikit-learn", "sklearn"),
}


def save_model(
    folder: Path, weights: Mapping[str, torch.Tensor], preprocessing: Preprocessing, params: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Write a model, of which `weights` is the state dict, to `folder` in one rename, in place of what lies there.

    Returns its digest and the manifest.
    """
    with beside(folder) as made:
        # cloned: tied weights share memory, which the format does not have
        apart = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()}
        save_file(apart, made / WEIGHTS_FILE)
        describe(made, preprocessing)
        libraries = {"torch": str(torch.__version__), "safetensors": safetensors.__version__}
        return seal(made, {"libraries": {**_libraries(), **libraries}, "params": dict(params)})


def save_estimator(folder: Path, estimator: Any, preprocessing: Preprocessing, params: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """As `save_model`, for an estimator of scikit-learn, which is written by skops. Raises Unavailable without the extra `sklearn`."""
    write: Callable[[Any, Path], dict[str, str]] = load(ESTIMATORS, "write", "format")
    with beside(folder) as made:
        libraries = write(estimator, made / ESTIMATOR_FILE)
        describe(made, preprocessing)
        return seal(made, {"libraries": {**_libraries(), **libraries}, "params": dict(params)})


def is_estimator(model: object) -> bool:
    """Whether a model is an estimator of scikit-learn, or a subclass of one; scikit-learn is not imported to tell."""
    return any(kind.__module__.partition(".")[0] == "sklearn" for kind in type(model).__mro__) and hasattr(model, "get_params")


def describe(folder: Path, preprocessing: Preprocessing) -> None:
    """Write what belongs to the weights in `folder`: fitted preprocessing, signature, example, and the environment."""
    fitted = preprocessing.to_json()
    tokenizer = fitted.pop("tokenizer", None)  # in a file of its own, as other tools read it
    if tokenizer is not None:
        write_bytes(folder / TOKENIZER_FILE, tokenizer.encode())
    write_json(folder / PREPROCESSING_FILE, fitted)
    write_json(folder / SIGNATURE_FILE, described(preprocessing.signature))
    write_json(folder / EXAMPLE_FILE, example(preprocessing))
    write_json(folder / ENVIRONMENT_FILE, environment_lock())


def _libraries() -> dict[str, str]:
    return {"python": platform.python_version(), "numpy": np.__version__}


class ModelVersion:
    """A saved model, for `evaluate` and `predict`. Safe to use from several threads."""

    def __init__(self, folder: Path, *, digest: str | None = None, device: str = "cpu") -> None:
        """Open and verify. Raises CheckpointError, naming the file, when anything is missing or changed (`digest` covers the manifest)."""
        self.folder = folder
        self._device = torch.device(device)
        self._lock = Lock()
        self._module: torch.nn.Module | None = None
        self._manifest = open_package(folder, digest)
        self._estimator: Any = None

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """What was fitted on the train split. Raises JobError for a model that came without, as foreign ones do."""
        if PREPROCESSING_FILE not in self._manifest["files"]:
            raise JobError("this model has no fitted preprocessing", value=str(self.folder), fix="read its files from `version.folder`")
        fitted = json.loads(read_file(self.folder, PREPROCESSING_FILE))
        if TOKENIZER_FILE in self._manifest["files"]:
            fitted["tokenizer"] = read_file(self.folder, TOKENIZER_FILE).decode()
        return Preprocessing.from_json(fitted)

    @property
    def signature(self) -> Signature:
        """What the model takes and gives. Raises as `preprocessing`."""
        return self.preprocessing.signature

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters that it was trained with."""
        params: Mapping[str, Any] = self._manifest.get("params", {})
        return params

    def estimator(self) -> Any:
        """The estimator of scikit-learn that was saved; later calls return the same.

        Raises JobError for a model that is none, or whose file names types that are not scikit-learn's, numpy's or scipy's own.
        """
        with self._lock:
            if self._estimator is None:
                if ESTIMATOR_FILE not in self._manifest["files"]:
                    raise JobError("this model is no estimator", value=str(self.folder), fix="use `version.module(build)`")
                self._estimator = load(ESTIMATORS, "read", "format")(self.folder / ESTIMATOR_FILE)
            return self._estimator

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
