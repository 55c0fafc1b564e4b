"""Auditing a project: its ledger, without folding it (one that was tampered with may not fold), and the bytes of its versions.

Does not know: what the events say beyond which versions they name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.core.atomic import json_bytes
from bedplate.core.clock import SystemClock
from bedplate.core.digest import digest, digest_file, digest_files
from bedplate.core.errors import BedplateError
from bedplate.core.heads import Audit, audit
from bedplate.core.ledger import Ledger
from bedplate.core.package import MANIFEST_FILE, open_package
from bedplate.core.project import load_project
from bedplate.core.projection import discard
from bedplate.core.settings import read_settings
from bedplate.core.versions import Version

SIDECARS = {"training_set": "manifest.json", "view": "view.json"}  # JSON that has the digests of the files beside it


@dataclass(frozen=True)
class Artifact:
    """A version, or a snapshot of code, whose bytes were compared with its digest: where they lie, whether they agree, and why not."""

    version: str
    place: str
    holds: bool
    why: str = ""


def audit_project(folder: Path) -> Audit:
    """Verify the ledger of the project in `folder` or above. Raises ChainBroken naming what does not fit."""
    settings = read_settings()
    project = load_project(folder.resolve(), settings)
    with closing(Ledger(project.state / "ledger.db", project.name, SystemClock())) as ledger:
        return audit(ledger, settings.home)


def audit_artifacts(folder: Path, told: Callable[[str], None] = lambda _: None) -> list[Artifact]:
    """Compare the bytes of every version with its digest in the ledger, which `audit_project` verified; `told` hears each version's name.

    The stored records are thrown away too, so that what is shown next is made of the verified events. Rows of tables and streams are
    named by their source and offsets, not by bytes, and are not compared; nor is what was removed, with a reason.
    """
    settings = read_settings()
    project = load_project(folder.resolve(), settings)
    found = []
    with closing(Ledger(project.state / "ledger.db", project.name, SystemClock())) as ledger:
        discard(ledger.path)
        for snapshot in _snapshots(ledger):
            told(f"code {snapshot[:12]}")
            found.append(_compared(Version(f"code {snapshot[:12]}", 0, "files", snapshot, "", "", 0.0), project.state / "code" / snapshot))
        for version in _versions(ledger):
            told(version.ref)
            place = (project.root if version.kind == "file" else project.state) / version.location
            if version.kind in _CHECKS:
                found.append(_compared(version, place))
    return found


def _snapshots(ledger: Ledger) -> list[str]:
    codes = [event.payload["code"] for event in ledger.read() if event.kind == "run.created" and event.payload.get("code")]
    return sorted({str(code["snapshot"]) for code in codes if code.get("snapshot")})


def _versions(ledger: Ledger) -> Iterator[Version]:
    """The versions whose bytes must be there: not those that were removed, nor files of the project that a newer version replaced."""
    removed: set[str] = set()
    known: dict[str, Version] = {}
    for event in ledger.read():
        if event.kind == "version.removed":
            removed.add(event.subject)
        elif event.kind == "version.created" and not event.erased:
            version = Version.from_json(event.payload["version"])
            known[version.location if version.kind == "file" else version.ref] = version
    return (version for version in known.values() if version.ref not in removed)


def _compared(version: Version, place: Path) -> Artifact:
    try:
        why = _CHECKS[version.kind](version, place)
    except BedplateError as error:
        why = f"{error.what} ({error.value})"
    except OSError as error:
        why = f"{error.strerror} ({error.filename})"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = f"not in the format: {type(error).__name__} {error}"
    return Artifact(version.ref if version.number else version.name, str(place), not why, why)


def _model(version: Version, place: Path) -> str:
    manifest = open_package(place, version.digest)
    extra = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()} - {*manifest["files"], MANIFEST_FILE}
    return f"files that the manifest does not name: {', '.join(sorted(extra))}" if extra else ""


def _described(version: Version, place: Path) -> str:
    """A folder with a description, whose canonical form has the version's digest, and which has the digests of the files."""
    name = SIDECARS[version.kind]
    data = (place / name).read_bytes()
    said: Mapping[str, Any] = json.loads(data)
    if digest(said) != version.digest or data != json_bytes(said):
        return f"{name} was changed"
    wrong = [each for each, wanted in said["files"].items() if not (place / each).is_file() or digest_file(place / each) != wanted]
    return f"missing or changed: {', '.join(sorted(wrong))}" if wrong else ""


def _files(version: Version, place: Path) -> str:
    names = [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    return "" if digest_files(place, names) == version.digest else "a file was changed, added or taken away"


def _file(version: Version, place: Path) -> str:
    return "" if digest_file(place) == version.digest else "the file was changed"


_CHECKS: Mapping[str, Callable[[Version, Path], str]] = {
    "model": _model,
    "training_set": _described,
    "view": _described,
    "files": _files,
    "file": _file,
}
