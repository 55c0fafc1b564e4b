"""`.dvc` files: small YAML files beside what they stand for, with its digest, size and number of files.

Read and written as DVC 3 does. What else a file says (`desc`, `meta`, `remote` of the out) is kept when it is written anew.
Does not know: where objects are stored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bedplate.core.atomic import write_bytes
from bedplate.core.errors import DataError
from bedplate.core.source import parse
from bedplate.data.trees.manifest import OBJECT, SUFFIX, is_inside

_OWN = ("md5", "size", "nfiles", "isexec", "hash", "path")


@dataclass(frozen=True)
class Tracked:
    """What a `.dvc` file says: `path` is the name beside it, `md5` the object, `size_bytes` the sum over `nfiles` (None for one file)."""

    path: str
    md5: str
    size_bytes: int
    nfiles: int | None = None
    executable: bool = False

    @property
    def is_tree(self) -> bool:
        """Whether it is a folder."""
        return self.md5.endswith(SUFFIX)

    def out(self) -> dict[str, Any]:
        """The mapping, in DVC's order of fields."""
        size = {"md5": self.md5, "size": self.size_bytes}
        count = {} if self.nfiles is None else {"nfiles": self.nfiles}
        return {**size, **count, **({"isexec": True} if self.executable else {}), "hash": "md5", "path": self.path}


class _Dumper(yaml.SafeDumper):
    """Quotes a digest that YAML 1.2, which DVC reads, would take for a number: `12345678901234567890123456789e12`."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))


def read(file: Path) -> Tracked:
    """What the `.dvc` file says. Raises DataError for what is not one, or one that `dvc add` of DVC 3 does not write."""
    return _tracked(_mapping(file), file)


def write(file: Path, tracked: Tracked) -> bool:
    """Let the file say that; whether it said something else before. Raises DataError when another kind of file is there."""
    values: Mapping[str, Any] = {}
    kept: dict[str, Any] = {}
    if file.exists():
        values = _mapping(file)
        if _tracked(values, file) == tracked:
            return False
        kept = {name: value for name, value in values["outs"][0].items() if name not in _OWN}
    text = yaml.dump({**values, "outs": [{**tracked.out(), **kept}]}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 20)
    write_bytes(file, text.encode())
    return True


def _mapping(file: Path) -> Mapping[str, Any]:
    try:
        return parse(file.read_text("utf-8"), str(file)).values
    except UnicodeDecodeError as error:
        raise DataError("not a .dvc file", value=str(file)) from error


def _tracked(values: Mapping[str, Any], file: Path) -> Tracked:
    outs = values.get("outs")
    if not isinstance(outs, list) or len(outs) != 1 or not isinstance(outs[0], dict):
        raise DataError("a .dvc file names one file or folder below outs", value=str(file))
    out = outs[0]
    if out.get("hash") != "md5":
        raise DataError("the .dvc file was not written by DVC 3", value=str(file), fix="dvc cache migrate --dvc-files")
    path, md5, size, nfiles = str(out.get("path")), str(out.get("md5")), out.get("size"), out.get("nfiles")
    if not is_inside(path) or not OBJECT.fullmatch(md5) or not isinstance(size, int) or not isinstance(nfiles, int | None):
        raise DataError("the .dvc file is damaged", value=str(file), fix="take it from version control, or add the path again")
    return Tracked(path, md5, size, nfiles, bool(out.get("isexec", False)))
