"""Whether a version's bytes are those that it was made with, as far as its own manifest or its digest says.

Does not know: whether a version is there at all (`facts`), or what else names it.
"""

from __future__ import annotations

import json
from pathlib import Path

from bedplate.core.digest import digest_file
from bedplate.core.errors import BedplateError
from bedplate.core.package import open_package
from bedplate.core.versions import Version

_MANIFESTS = ("manifest.json", "view.json")


def damage(place: Path, version: Version) -> str:
    """What is wrong with a version at `place`, in a few words; empty when nothing is, and for a cut, whose rows the lake keeps."""
    if version.kind == "file":
        return "" if digest_file(place) == version.digest else f"the file {place.name} changed"
    if version.kind == "model" and (place / "manifest.json").is_file():
        try:
            open_package(place, version.digest)
        except BedplateError as error:
            return error.one_line()
        return ""
    manifest = next((place / name for name in _MANIFESTS if (place / name).is_file()), None)
    if manifest is None:
        return ""
    files = json.loads(manifest.read_bytes()).get("files", {})
    for name, recorded in sorted(files.items()):
        if not isinstance(recorded, str):
            continue
        if not (place / name).is_file():
            return f"the file {name} is missing"
        if digest_file(place / name) != recorded:
            return f"the file {name} changed"
    return ""
