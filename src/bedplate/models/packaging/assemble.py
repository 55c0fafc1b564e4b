"""From files to a version's folder: each is examined, what could run code is refused, what is missing is written beside, and all is sealed.

Does not know: where files come from, numbers of versions, or who is asked to vouch for one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from bedplate.core.atomic import confined, write_json
from bedplate.core.errors import DataError, UnsafeArtifact
from bedplate.core.imported import environment_lock
from bedplate.core.package import ENVIRONMENT_FILE, EXAMPLE_FILE, MANIFEST_FILE, SIGNATURE_FILE, beside, seal, sha256_file
from bedplate.models.packaging.formats import WEIGHTS, examine
from bedplate.models.packaging.signatures import example_of, signature_of

Place = Callable[[Path, Path], None]


def assemble(
    source: Path,
    folder: Path,
    *,
    facts: Mapping[str, Any],
    trusted: Collection[str] = (),
    names: Iterable[str] | None = None,
    place: Place | None = None,
    signature: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
) -> tuple[str, dict[str, Any]]:
    """Make `folder` a version of the files below `source` (all, or `names`); returns its digest and its manifest.

    `facts` go into the manifest; `place(source, target)` puts a file's bytes into the version (default: a copy). `signature` and
    `environment` are what the maker knows of it, else its files tell. Raises UnsafeArtifact for a file that could run code and whose
    SHA-256 is not in `trusted`, and DataError when there are no weights among the files.
    """
    listed = sorted(files_below(source) if names is None else names)
    kinds = {name: _checked(source, name, trusted) for name in listed}
    if not any(kind in (*WEIGHTS, "trusted") for kind in kinds.values()):
        fix = "a model is safetensors, ONNX, torch.export, GGUF, XGBoost JSON, LightGBM text or skops"
        raise DataError("no weights are among these files", value=", ".join(listed[:8]) or str(source), fix=fix)
    with beside(folder) as made:
        for name in listed:
            target = confined(made, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            (place or copy)(source / name, target)
        _complete(made, kinds, signature, environment)
        vouched = sorted(name for name, kind in kinds.items() if kind == "trusted")
        weights = sorted({kind for kind in kinds.values() if kind in WEIGHTS})
        return seal(made, {**facts, "weights": weights, **({"trusted": vouched} if vouched else {})})


def files_below(folder: Path) -> list[str]:
    """The files below a folder by name, without what manifests and version control keep there.

    Raises DataError for a link that leads out of it.
    """
    names = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise DataError("a link leads out of the model's folder", value=str(path), fix="put the file itself there")
        if path.is_file() and name != MANIFEST_FILE and not name.startswith((".git/", ".cache/")) and path.name != ".gitattributes":
            names.append(name)
    return names


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes; a link is followed."""
    shutil.copyfile(source, target)


def through_store(store: Path) -> Place:
    """Bytes are kept once in `store`, by their SHA-256, and linked from there: versions that share files share their bytes."""

    def place(source: Path, target: Path) -> None:
        digest = sha256_file(source)
        kept = store / digest[:2] / digest
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            partial = kept.with_name(f".{digest}.{os.getpid()}.tmp")
            shutil.copyfile(source, partial)
            if sha256_file(partial) != digest:
                partial.unlink()
                raise DataError("a file changed while it was read", value=str(source), fix="end what writes it, and try again")
            partial.chmod(0o444)
            partial.rename(kept)
        os.link(kept, target)

    return place


def refuse(name: str, digest: str, danger: str) -> UnsafeArtifact:
    """The one error for a file that could run code."""
    fix = f"write it as safetensors, ONNX or by skops; or vouch for this one file: bedplate models trust {digest} --reason ..."
    return UnsafeArtifact(f"loading {name} could run code: {danger}", value=digest, fix=fix)


def _checked(source: Path, name: str, trusted: Collection[str]) -> str:
    found = examine(source / name)
    if not found.danger:
        return found.kind
    digest = sha256_file(source / name)
    if digest not in trusted:
        raise refuse(name, digest, found.danger)
    return "trusted"


def _complete(folder: Path, kinds: Mapping[str, str], signature: Mapping[str, Any] | None, environment: Mapping[str, Any] | None) -> None:
    """Write the files that every version has, where its maker did not."""
    known = dict(signature) if signature is not None else signature_of(folder, kinds)
    if not (folder / SIGNATURE_FILE).exists():
        write_json(folder / SIGNATURE_FILE, known)
    if not (folder / EXAMPLE_FILE).exists():
        write_json(folder / EXAMPLE_FILE, example_of(known))
    if not (folder / ENVIRONMENT_FILE).exists():
        write_json(folder / ENVIRONMENT_FILE, dict(environment) if environment is not None else environment_lock())
