"""A model from elsewhere, by its address: its files brought to a folder here, with what is known of where they come from.

    dir://FOLDER    hf://ORGANIZATION/NAME[@REVISION]    mlflow://MODEL/VERSION?store=sqlite:///FILE    s3://BUCKET/PREFIX

Where safe weights lie beside unsafe files, the unsafe ones are left out and told; nothing is ever unpickled to find out.
Does not know: versions, or who vouched for a file (`packaging.assemble` asks).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import yaml

from bedplate.core.errors import DataError, NotFound
from bedplate.core.loading import Entry, load
from bedplate.core.package import sha256_file
from bedplate.models.foreign.open import open_store
from bedplate.models.foreign.places import fetched, listed
from bedplate.models.foreign.records import RegisteredVersion, Store
from bedplate.models.packaging.assemble import files_below
from bedplate.models.packaging.formats import WEIGHTS, examine

HUB: Mapping[str, Entry] = {"hf": Entry("bedplate.models.engines.hub:snapshot", "a snapshot of a model of the hub", "transformers")}


@dataclass(frozen=True)
class Fetched:
    """Files below `folder`: those to take, those left out ({name, sha256, why}), and facts of their origin, as JSON."""

    folder: Path
    names: tuple[str, ...]
    left_out: tuple[Mapping[str, str], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def fetch(address: str, patterns: Sequence[str], root: Path, scratch: Path) -> Fetched:
    """Bring the model at `address` here; relative folders are below `root`, what is downloaded goes below `scratch`.

    Raises DataError or NotFound for what is not there or cannot be read.
    """
    scheme, _, rest = address.partition("://")
    folder, facts = _SCHEMES[scheme](rest, patterns, root, scratch)
    found = [name for name in files_below(folder) if not patterns or any(fnmatch(name, pattern) for pattern in patterns)]
    if not found:
        raise NotFound("there is no file of a model", value=address, fix="correct `from`, or `files`")
    names, left_out = _safe_part(folder, found)
    return Fetched(folder, tuple(names), tuple(left_out), {"from": address, **facts, **_card(folder)})


def _safe_part(folder: Path, names: Sequence[str]) -> tuple[list[str], list[dict[str, str]]]:
    """What to take and what to leave out: unsafe files, where there are safe weights; else all (and packaging refuses)."""
    formats = {name: examine(folder / name) for name in names}
    if not any(each.kind in WEIGHTS for each in formats.values()):
        return list(names), []
    unsafe = [name for name, each in formats.items() if each.danger]
    told = [{"name": name, "sha256": sha256_file(folder / name), "why": formats[name].danger} for name in unsafe]
    return [name for name in names if name not in unsafe], told


def _directory(rest: str, _patterns: Sequence[str], root: Path, _scratch: Path) -> tuple[Path, dict[str, Any]]:
    folder = (root / unquote(rest)).resolve()
    if not folder.is_dir():
        raise NotFound("there is no such folder", value=str(folder), fix="correct `from`: dir:// and a folder, of the project or any other")
    return folder, {}


def _hub(rest: str, patterns: Sequence[str], _root: Path, _scratch: Path) -> tuple[Path, dict[str, Any]]:
    name, _, revision = rest.partition("@")
    snapshot: Callable[..., Path] = load(HUB, "hf", "source")
    folder = snapshot(name, revision or None, patterns)
    return folder, {"repository": name, "revision": folder.name}


def _objects(rest: str, patterns: Sequence[str], _root: Path, scratch: Path) -> tuple[Path, dict[str, Any]]:
    url = f"s3://{rest}"
    for artifact in listed(url, scratch):
        if not patterns or any(fnmatch(artifact.name, pattern) for pattern in patterns):
            fetched(url, scratch, artifact.name, scratch / artifact.name)
    scratch.mkdir(parents=True, exist_ok=True)
    return scratch, {}


def _registry(rest: str, _patterns: Sequence[str], root: Path, scratch: Path) -> tuple[Path, dict[str, Any]]:
    place, _, query = rest.partition("?")
    model, _, wanted = place.rpartition("/")
    given = parse_qs(query).get("store")
    if not model or not given:
        raise DataError(
            "the address of a model in MLflow is incomplete", value=rest, fix="mlflow://MODEL/VERSION?store=sqlite:///FILE or a URL"
        )
    store = open_store(given[0], root)
    try:
        version = _wanted(store, unquote(model), unquote(wanted))
        scratch.mkdir(parents=True, exist_ok=True)
        store.fetch_version(version, scratch)
    finally:
        store.close()
    told = {"run": version.run, "tags": dict(version.tags), "description": version.description}
    return scratch, {
        "store": store.identity,
        "mlflow": f"{version.model}/{version.number}",
        **{name: each for name, each in told.items() if each},
    }


def _wanted(store: Store, model: str, wanted: str) -> RegisteredVersion:
    """The version that a number or an alias names. Raises NotFound."""
    versions = store.versions(model)
    aliases = {alias: number for each in store.registered() if each.name == model for alias, number in each.aliases.items()}
    number = int(wanted) if wanted.isdigit() else aliases.get(wanted.removeprefix("@"), 0)
    found = next((version for version in versions if version.number == number), None)
    if found is None:
        known = ", ".join([*(str(version.number) for version in versions), *aliases]) or "none"
        raise NotFound("the store has no such version", value=f"{model}/{wanted}", fix=f"its versions and aliases: {known}")
    return found


def _card(folder: Path) -> dict[str, Any]:
    """License and base model, from the front matter of the card that lies beside the weights (README.md, as the hub has it)."""
    card = folder / "README.md"
    text = card.read_text(errors="replace") if card.is_file() else ""
    if not text.startswith("---\n"):
        return {}
    try:
        front = yaml.safe_load(text[4:].partition("\n---")[0])
    except yaml.YAMLError:
        return {}  # a card is for people: one that no parser reads says nothing here
    known = front if isinstance(front, dict) else {}
    return {f"card_{name}": str(known[name]) for name in ("license", "base_model") if known.get(name)}


_SCHEMES: Mapping[str, Callable[[str, Sequence[str], Path, Path], tuple[Path, dict[str, Any]]]] = {
    "dir": _directory,
    "hf": _hub,
    "mlflow": _registry,
    "s3": _objects,
}
