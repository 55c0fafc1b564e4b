"""A folder as DVC knows it: `.dvc/` with its configuration, cache and notes; made when it is not there.

Does not know: trees, or how a remote is reached.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bedplate.core.atomic import confined, write_bytes
from bedplate.core.errors import BedplateError, NotFound, SpecError, nearest
from bedplate.data.trees.link import KINDS, shares_blocks
from bedplate.data.trees.objects import Objects

IGNORED = "/config.local\n/tmp\n/cache\n"
IGNORE_FILE = "# what `data add` leaves out of the trees below this folder, a pattern a line, as in .gitignore\n"


@dataclass(frozen=True)
class Repository:
    """A DVC project: its root, and the sections of `.dvc/config` and, before it, `.dvc/config.local`."""

    root: Path
    config: Mapping[str, Mapping[str, str]]

    @staticmethod
    def open(folder: Path, make: bool = False) -> Repository:
        """The project that `folder` lies in: the nearest with `.dvc`. Raises NotFound when there is none and none is to be made."""
        start = folder.resolve()
        root = next((each for each in (start, *start.parents) if (each / ".dvc").is_dir()), None)
        if root is None:
            if not make:
                raise NotFound("no file trees are kept here", value=str(start), fix="bedplate data add PATH")
            root = next((each for each in (start, *start.parents) if (each / "bedplate.yaml").exists()), start)
            _init(root)
        return Repository(root, _config(root / ".dvc"))

    @property
    def cache(self) -> Objects:
        """The objects of the cache (`cache.dir`, below `.dvc` unless it is set)."""
        return Objects(self.root / ".dvc" / self.config.get("cache", {}).get("dir", "cache") / "files" / "md5")

    @property
    def notes(self) -> Path:
        """The file of `State`."""
        return self.root / ".dvc" / "tmp" / "bedplate.db"

    @property
    def links(self) -> list[str]:
        """How files share their bytes with the cache (`cache.type`), as far as its file system can. Raises SpecError for another."""
        text = self.config.get("cache", {}).get("type")
        kinds = [kind.strip() for kind in text.split(",")] if text else list(KINDS)
        for kind in kinds:
            if kind not in KINDS:
                raise SpecError("no such link", field="cache.type", value=kind, file=".dvc/config", fix=f"one of {', '.join(KINDS)}")
        return [kind for kind in kinds if kind != "reflink" or shares_blocks(self.cache.folder)] or ["copy"]

    def remote(self, name: str = "") -> tuple[str, Mapping[str, str]]:
        """Name and settings of a remote, or of the default one. Raises NotFound."""
        name = name or self.config.get("core", {}).get("remote", "")
        remotes = {key[8:-1]: values for key, values in self.config.items() if key.startswith('remote "')}
        if not name:
            raise NotFound("no remote is named", fix="bedplate data push NAME, or `dvc remote default NAME`; remotes stand in .dvc/config")
        if name not in remotes or "url" not in remotes[name]:
            raise NotFound("no such remote in .dvc/config", value=name, fix=nearest(name, remotes))
        return name, remotes[name]

    def relative(self, path: Path) -> str:
        """A path, as typed, from the root with `/`. Raises BedplateError when it leads outside or is the root."""
        full = path.parent.resolve() / path.name
        if not full.is_relative_to(self.root) or full == self.root or ".dvc" in full.relative_to(self.root).parts:
            raise BedplateError("not a path inside the project", value=str(path), fix=f"name a file or folder below {self.root}")
        return full.relative_to(self.root).as_posix()

    def dvc_file(self, tree: str) -> Path:
        """The `.dvc` file of a path from the root. Raises BedplateError when it leads outside."""
        return confined(self.root, f"{tree}.dvc")

    def tracked(self) -> Iterator[str]:
        """The paths, from the root, that `.dvc` files stand for; hidden folders and the trees themselves are not looked into."""
        for folder, folders, files in os.walk(self.root):
            names = sorted(name[:-4] for name in files if name.endswith(".dvc") and len(name) > 4)
            folders[:] = sorted(name for name in folders if name not in names and not name.startswith("."))
            yield from (Path(folder, name).relative_to(self.root).as_posix() for name in names)

    def ignore_in_git(self, tree: str) -> None:
        """Let git leave a tracked path out: an entry in the `.gitignore` beside it. Outside a git repository nothing is written."""
        if not any((each / ".git").exists() for each in (self.root, *self.root.parents)):
            return
        path = self.root / tree
        file = path.parent / ".gitignore"
        before = file.read_text("utf-8") if file.exists() else ""
        entry = "/" + "".join(f"\\{letter}" if letter in "\\!*#?[" else letter for letter in path.name)
        if entry not in before.splitlines():
            write_bytes(file, f"{before}{'' if before.endswith(chr(10)) or not before else chr(10)}{entry}\n".encode())


def _init(root: Path) -> None:
    alone = not any((each / ".git").exists() for each in (root, *root.parents))
    write_bytes(root / ".dvc" / ".gitignore", IGNORED.encode())
    if not (root / ".dvcignore").exists():
        write_bytes(root / ".dvcignore", IGNORE_FILE.encode())
    write_bytes(root / ".dvc" / "config", b"[core]\n    no_scm = True\n" if alone else b"")


def _config(folder: Path) -> dict[str, dict[str, str]]:
    """The sections, by DVC's names: `core`, `cache`, `remote "name"`."""
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    try:
        parser.read([folder / "config", folder / "config.local"], "utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise SpecError("not a configuration of DVC", file=str(folder / "config"), value=str(error).splitlines()[0]) from error
    return {name.strip("'"): {key: value.strip("\"'") for key, value in parser.items(name)} for name in parser.sections()}
