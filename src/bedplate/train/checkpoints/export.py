"""Weights as the Hugging Face Hub and transformers want them: safetensors files of bounded size, an index, the model's config.

One file is `model.safetensors`; several are `model-00001-of-000NN.safetensors` with `model.safetensors.index.json`.
Does not know: meshes (it is handed whole tensors, or a verified checkpoint), or how a model is run.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from bedplate.core.atomic import sync, write_bytes
from bedplate.core.errors import CheckpointError
from bedplate.core.package import open_package, read_file
from bedplate.train.checkpoints.layout import DTYPES, Box
from bedplate.train.checkpoints.reading import Stored, opened
from bedplate.train.checkpoints.tiers import tiers_of

SHARD_BYTES = 5 << 30
INDEX_FILE = "model.safetensors.index.json"
CONFIG_FILE = "config.json"

WEIGHTS_FILE = "model.safetensors"
ELEMENT_BYTES: Mapping[str, int] = dict(DTYPES.values())

Read = Callable[[str], torch.Tensor]
Told = Callable[[int, int], None]


def export_weights(
    folder: Path, weights: Mapping[str, torch.Tensor], config: Any = None, shard_bytes: int = SHARD_BYTES, told: Told | None = None
) -> list[Path]:
    """Write a whole state dict to `folder`, in one rename; returns the files. Tied tensors are written once, as transformers does.

    `config` is a mapping, or has `to_dict()` as those of transformers; `told` is called after each tensor with the bytes so far and of all.
    Raises CheckpointError when something lies at `folder`.
    """
    seen: dict[tuple[Any, ...], str] = {}
    kept: dict[str, int] = {}
    for name, tensor in weights.items():
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if not tensor.numel() or seen.setdefault(place, name) == name:
            kept[name] = tensor.nbytes
    return _written(
        folder, kept, _counted(lambda name: weights[name].detach().cpu().contiguous(), kept, told), _config(config), shard_bytes
    )


def export_version(
    folder: Path, version: Path, digest: str, config: Any = None, shard_bytes: int = SHARD_BYTES, told: Told | None = None
) -> list[Path]:
    """The same for the package of a model version, whose manifest has that digest; its own `config.json` goes along without another.

    Raises CheckpointError when the package is damaged, or has no weights of this kind.
    """
    files = open_package(version, digest)["files"]
    if WEIGHTS_FILE not in files:
        raise CheckpointError(f"this version has no {WEIGHTS_FILE}", value=str(version), fix=f"its files are {', '.join(sorted(files))}")
    if config is None and CONFIG_FILE in files:
        config = json.loads(read_file(version, CONFIG_FILE))
    with safe_open(version / WEIGHTS_FILE, framework="pt") as weights:
        sizes = {name: _nbytes(weights.get_slice(name)) for name in weights.keys()}  # noqa: SIM118 - it is no mapping
        return _written(folder, sizes, _counted(weights.get_tensor, sizes, told), _config(config), shard_bytes)


def export_committed(
    folder: Path,
    known: Mapping[str, Any],
    state: Path,
    tiers: Sequence[str] | None,
    config: Any = None,
    shard_bytes: int = SHARD_BYTES,
    told: Told | None = None,
) -> list[Path]:
    """The same for the first module of a committed checkpoint: `known` has its location and digest, `tiers` are those of the job.

    Every byte that is written was verified. Raises CheckpointError, naming the file, where no tier has it whole.
    """
    stored = opened(known["location"], known["digest"], tiers_of(tiers, state).places)
    index = next((number for number, tree in enumerate(stored.trees) if "module" in tree), 0)
    return export_checkpoint(folder, stored, index, config, shard_bytes, told)


def export_checkpoint(
    folder: Path, stored: Stored, index: int = 0, config: Any = None, shard_bytes: int = SHARD_BYTES, told: Told | None = None
) -> list[Path]:
    """The same for the module that was number `index` in the `state` of a checkpoint: one file's tensors are in memory at a time.

    Raises CheckpointError when that is no module, or damaged.
    """
    tree = stored.trees[index] if index < len(stored.trees) else {}
    if "module" not in tree:
        raise CheckpointError("the checkpoint has no module there", value=index, fix="name the place of the model in `state`")
    entries = [(key, leaf["t"]) for key, leaf in tree["module"]["d"] if isinstance(leaf, dict) and "t" in leaf]
    names = {key: name for key, name in entries if name == f"{index}.{key}"}  # the others are tied to one of these
    sizes = {key: stored.nbytes(name) for key, name in names.items()}

    def read(key: str) -> torch.Tensor:
        whole = stored.whole(names[key])
        return stored.read(names[key], Box((0,) * len(whole), whole))

    return _written(folder, sizes, _counted(read, sizes, told), _config(config), shard_bytes)


def shards(sizes: Mapping[str, int], shard_bytes: int) -> list[list[str]]:
    """The names of each file, in order; a tensor larger than `shard_bytes` has a file of its own."""
    found: list[list[str]] = [[]]
    filled = 0
    for name, nbytes in sizes.items():
        if found[-1] and filled + nbytes > shard_bytes:
            found.append([])
            filled = 0
        found[-1].append(name)
        filled += nbytes
    return found


def _written(folder: Path, sizes: Mapping[str, int], read: Read, config: Mapping[str, Any] | None, shard_bytes: int) -> list[Path]:
    if folder.exists():
        raise CheckpointError("something lies there already", value=str(folder), fix="choose a new folder")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        files = _weights(beside, shards(sizes, shard_bytes), sizes, read)
        if config is not None:
            write_bytes(beside / CONFIG_FILE, (json.dumps(config, indent=2, sort_keys=True) + "\n").encode())
            files.append(CONFIG_FILE)
        sync(beside)
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync(folder.parent)
    return [folder / name for name in files]


def _weights(folder: Path, files: Sequence[Sequence[str]], sizes: Mapping[str, int], read: Read) -> list[str]:
    written = []
    for number, names in enumerate(files, 1):
        file = "model.safetensors" if len(files) == 1 else f"model-{number:05d}-of-{len(files):05d}.safetensors"
        save_file({name: _own(read(name)) for name in names}, folder / file, metadata={"format": "pt"})
        sync(folder / file)
        written.append(file)
    if len(files) > 1:
        weight_map = {name: file for file, names in zip(written, files, strict=True) for name in names}
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        write_bytes(folder / INDEX_FILE, (json.dumps(index, indent=2, sort_keys=True) + "\n").encode())
        written.append(INDEX_FILE)
    return written


def _counted(read: Read, sizes: Mapping[str, int], told: Told | None) -> Read:
    """`read` that says how far it is."""
    total, done = sum(sizes.values()), 0

    def counted(name: str) -> torch.Tensor:
        nonlocal done
        found = read(name)
        done += sizes[name]
        if told is not None:
            told(done, total)
        return found

    return counted


def _nbytes(piece: Any) -> int:
    return math.prod(map(int, piece.get_shape())) * ELEMENT_BYTES[piece.get_dtype()]


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor with memory of its own: the format has no views."""
    return tensor.clone() if tensor.untyped_storage().nbytes() != tensor.nbytes else tensor


def _config(config: Any) -> Mapping[str, Any] | None:
    found: Mapping[str, Any] | None = config.to_dict() if hasattr(config, "to_dict") else config
    return found
