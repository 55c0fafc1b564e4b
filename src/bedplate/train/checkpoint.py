"""Checkpoints: committed whole or not there. Written beside the training step, verified when loaded, never unpickled.

A folder `step-N` holds `state.safetensors` (all tensors), `state.json` (the tree around them, random generators, place in the data)
and `manifest.json` (the BLAKE3 digest and size of both); the SHA-256 of the manifest is what the journal and the ledger know it by.
Does not know: when to write one, or how ranks agree on it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bedplate.core.atomic import confined, sync
from bedplate.core.attempt import Attempt
from bedplate.core.digest import digest_bytes, digest_file
from bedplate.core.errors import BedplateError, CheckpointError
from bedplate.core.journal import JournalWriter
from bedplate.train.tree import Tensors, flatten, unflatten

TENSORS_FILE = "state.safetensors"
TREE_FILE = "state.json"
MANIFEST_FILE = "manifest.json"
KEPT = 2


@dataclass(frozen=True)
class Position:
    """A place in the data: `loop` counts the stateful loops of the function, `sample` the global samples of the epoch that are behind,
    `step` the steps of all loops."""

    loop: int
    epoch: int
    sample: int
    step: int


@dataclass(frozen=True)
class Content:
    """What a checkpoint holds: states (of `state_dict`), generators by rank (see `tree.generators`), facts that must fit on resuming."""

    position: Position
    states: Sequence[Any]
    generators: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any]


def write(folder: Path, position: Position, tree: Mapping[str, Any], tensors: Tensors) -> str:
    """Put a checkpoint at `folder`, durably and in one rename; returns the SHA-256 of its manifest."""
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    save_file(tensors, beside / TENSORS_FILE)
    (beside / TREE_FILE).write_text(json.dumps({**tree, "position": asdict(position)}))
    files = {name: {"blake3": digest_file(beside / name), "bytes": (beside / name).stat().st_size} for name in (TENSORS_FILE, TREE_FILE)}
    manifest = json.dumps({"format": 1, "step": position.step, "files": files}, indent=1, sort_keys=True).encode()
    (beside / MANIFEST_FILE).write_bytes(manifest)
    for name in (*files, MANIFEST_FILE):
        sync(beside / name)
    sync(beside)
    beside.rename(folder)  # fails where one lies already: a committed checkpoint is never written over
    sync(folder.parent)
    return digest_bytes(manifest)


def load(folder: Path, expected_digest: str) -> Content:
    """The checkpoint at `folder`, its tensors on the CPU.

    Raises CheckpointError, naming the file, when anything is missing or differs from what was written.
    """
    manifest = _read(folder / MANIFEST_FILE)
    if digest_bytes(manifest) != expected_digest:
        raise CheckpointError("a checkpoint's manifest was changed", value=str(folder / MANIFEST_FILE))
    for name, facts in json.loads(manifest)["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != facts["bytes"] or digest_file(path) != facts["blake3"]:
            raise CheckpointError("a checkpoint's file is missing or damaged", value=str(path))
    tree = json.loads(_read(folder / TREE_FILE))
    try:
        tensors = load_file(folder / TENSORS_FILE)
    except (OSError, SafetensorError) as error:
        raise CheckpointError("a checkpoint's file cannot be read", value=str(folder / TENSORS_FILE)) from error
    return Content(Position(**tree["position"]), unflatten(tree["states"], tensors), tree["generators"], tree["facts"])


def newest(attempt: Attempt, journal: JournalWriter) -> tuple[Content, Mapping[str, Any]] | None:
    """The newest checkpoint of an attempt that is whole, and how it is known; None when there is none.

    Each damaged one is told in the journal, and the one before it is taken; before the first is the beginning.
    """
    known = attempt.checkpoint
    for candidate in () if known is None else (known, *known.get("previous", ())):
        try:
            folder = confined(Path(attempt.state), candidate["location"])
            return load(folder, candidate["digest"]), {name: candidate[name] for name in ("location", "digest", "step")}
        except BedplateError as error:
            journal.write("message", text=f"checkpoint of step {candidate['step']} is passed over: {error.one_line()}")
    return None


class CheckpointWriter:
    """Writes checkpoints of one attempt in the background; the training step waits only while tensors are copied."""

    def __init__(self, attempt: Attempt, journal: JournalWriter) -> None:
        self._folder = attempt.path / "checkpoints"
        self._state = Path(attempt.state)
        self._journal = journal
        self._own: list[Path] = []
        self._staging: Tensors = {}
        self._thread: Thread | None = None
        self._begun: int | None = None

    @property
    def busy(self) -> bool:
        """Whether one is being written."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, content: Content) -> None:
        """Copy `content` and write it in the background. Waits for one that is being written; one of the same step is enough."""
        self.wait()
        if content.position.step == self._begun:
            return
        self._begun = content.position.step
        tensors: Tensors = {}
        tree = {"states": flatten(list(content.states), tensors), "generators": list(content.generators), "facts": dict(content.facts)}
        copied = self._stage(tensors)
        self._thread = Thread(target=self._commit, args=(content.position, tree, copied), name="checkpoint", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is being written."""
        if self._thread is not None:
            self._thread.join()

    def _stage(self, tensors: Tensors) -> torch.cuda.Event | None:
        """Copy into memory that is kept for the next time; what leaves an accelerator is still on its way when the event is not reached."""
        kept, self._staging = self._staging, {}
        for name, tensor in tensors.items():
            buffer = kept.get(name)
            if buffer is None or (buffer.shape, buffer.dtype) != (tensor.shape, tensor.dtype):
                buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._staging[name] = buffer.copy_(tensor, non_blocking=True)
        if not any(tensor.is_cuda for tensor in tensors.values()):
            return None
        event = torch.cuda.Event()  # type: ignore[no-untyped-call] # torch has no types for it
        event.record()
        return event

    def _commit(self, position: Position, tree: Mapping[str, Any], copied: torch.cuda.Event | None) -> None:
        folder = self._folder / f"step-{position.step}"
        try:
            if copied is not None:
                copied.synchronize()
            manifest_digest = write(folder, position, tree, self._staging)
        except (OSError, SafetensorError) as error:  # a full disk must not end the training; the next interval tries again
            self._journal.write("message", text=f"checkpoint of step {position.step} could not be written: {error}")
            return
        known = {"step": position.step, "location": str(folder.relative_to(self._state)), "digest": manifest_digest}
        self._journal.write("checkpoint", **known, epoch=position.epoch, position=position.sample)
        self._journal.sync()
        self._own.append(folder)
        while len(self._own) > KEPT:
            shutil.rmtree(self._own.pop(0), ignore_errors=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError("a checkpoint's file cannot be read", value=str(path)) from error
