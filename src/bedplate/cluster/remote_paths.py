"""Paths of an attempt on a host that does not have this machine's: where its files lie there, and what of here has to travel.

On the host lies a folder of the project with a `state` like the one here. An attempt has a `root` of its own below its folder: the
snapshot of its code and the files that it reads, so nothing runs there that was not recorded. Pure.
Does not know: how bytes travel (`remote_ssh`) or who asks.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from bedplate.core.attempt import Attempt
from bedplate.core.digest import digest

ROOT = "root"  # below the attempt's folder, there


@dataclass(frozen=True)
class Mapped:
    """One attempt, and `base`, the absolute path of the pool's folder on the host. `python` runs things there."""

    attempt: Attempt
    base: str
    python: str

    @property
    def state(self) -> str:
        """The project's state there: one folder for each project and machine that it is driven from."""
        own = Path(self.attempt.root).name or "project"
        return f"{self.base}/projects/{own}-{digest([self.attempt.root, self.attempt.state])[:12]}"

    @property
    def folder(self) -> str:
        """The attempt's folder there."""
        return self.there(self.attempt.folder)

    @property
    def root(self) -> str:
        """Where the attempt finds the project's files there."""
        return f"{self.folder}/{ROOT}"

    def there(self, path: str) -> str:
        """A path below the state or the project here, as it is there; any other stays."""
        given = PurePosixPath(path)
        if given.is_relative_to(self.attempt.state):
            return str(PurePosixPath(self.state) / given.relative_to(self.attempt.state))
        if given.is_relative_to(self.attempt.root):
            return str(PurePosixPath(self.root) / given.relative_to(self.attempt.root))
        return path

    def translated(self) -> Attempt:
        """The attempt as it is told there."""
        attempt = self.attempt
        return replace(
            attempt,
            folder=self.folder,
            root=self.root,
            state=self.state,
            code=self.root if attempt.code == attempt.root else self.there(attempt.code),
            argv=tuple(map(self._word, attempt.argv)),
            shim_argv=tuple(map(self._word, attempt.shim_argv)),
            inputs={name: {**given, "path": self.there(str(given["path"]))} for name, given in attempt.inputs.items()},
        )

    def _word(self, word: str) -> str:
        return self.python if word == sys.executable else self.there(word) if word.startswith("/") else word

    def state_files(self) -> list[str]:
        """What travels of the state, relative to it: code, inputs, and the checkpoint from which the attempt goes on."""
        attempt = self.attempt
        code = [attempt.code] if attempt.code != attempt.root else []
        wanted = [PurePosixPath(path) for path in (*code, *(str(given["path"]) for given in attempt.inputs.values()))]
        found = [str(path.relative_to(attempt.state)) for path in wanted if path.is_relative_to(attempt.state)]
        if attempt.checkpoint:
            known = [attempt.checkpoint, *attempt.checkpoint.get("previous", ())]
            found += [str(each["location"]) for each in known if each.get("location")]
        return [name for name in dict.fromkeys(found) if (Path(attempt.state) / name).exists()]

    def root_files(self) -> list[str]:
        """What travels of the project's folder, relative to it: inputs that are files of it."""
        attempt = self.attempt
        paths = [PurePosixPath(str(given["path"])) for given in attempt.inputs.values()]
        outside = [path for path in paths if path.is_relative_to(attempt.root) and not path.is_relative_to(attempt.state)]
        return [str(path.relative_to(attempt.root)) for path in outside]


def with_python(attempt: Attempt, python: str) -> Attempt:
    """The attempt as it is told where paths are the same and the interpreter is another one; empty: the same."""
    if not python:
        return attempt

    def named(words: Sequence[str]) -> tuple[str, ...]:
        return tuple(python if word == sys.executable else word for word in words)

    return replace(attempt, argv=named(attempt.argv), shim_argv=named(attempt.shim_argv))
