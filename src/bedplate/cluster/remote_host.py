"""A host of a pool and what is asked of it: to get ready for an attempt, to start it, to tell of it, to end it, to forget it.

Our own package travels with the first attempt and is kept there by its digest, so both sides speak the same; third-party packages are
those of the interpreter there. With a shared file system nothing travels.
Does not know: when any of it is done, or again (`remote_courier`).
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from bedplate.cluster.remote_paths import Mapped
from bedplate.cluster.remote_ssh import Shell
from bedplate.core.atomic import write_json
from bedplate.core.attempt import ATTEMPT_FILE, Attempt
from bedplate.core.digest import digest_files
from bedplate.core.errors import BedplateError

AGENT = "bedplate.cluster.remote_agent"
PACKAGE = Path(__file__).parents[1]  # bedplate itself
COMPLETE = ".complete"


class Refused(BedplateError):
    """A host was reached and cannot run the attempt: trying again would end the same."""


@dataclass(frozen=True)
class Ready:
    """A host that has all that an attempt needs: the attempt's folder there, what runs it, and the version of that Python."""

    folder: str
    python: str
    package: str
    version: str


@dataclass(frozen=True)
class Host:
    """`folder` is the pool's there; `python` is empty for this one's on a shared file system, else for `python3`."""

    shell: Shell
    folder: str
    python: str = ""
    package: str = ""
    shared: bool = False

    @property
    def name(self) -> str:
        """As ssh knows it."""
        return self.shell.host

    def at(self, name: str, python: str, package: str) -> Host:
        """The same for a host that is known to be ready, also where the pool names it no more."""
        return replace(self, shell=replace(self.shell, host=name), python=python, package=package)

    def prepared(self, attempt: Attempt) -> Ready:
        """Bring what `attempt` needs. Raises Lost, and Refused where the host lacks something."""
        if self.shared:
            python = self.python or sys.executable
            told = self._checked(self.at(self.name, python, ""))
            return Ready(attempt.folder, python, "", told["python"])
        base, package = self._base()
        mapped = Mapped(attempt, base, self.python or "python3")
        ready = self.at(self.name, mapped.python, package)
        told = self._checked(ready)
        self._push(mapped)
        return Ready(mapped.folder, mapped.python, package, told["python"])

    def follow(self, folder: str, sent: Mapping[str, int] | None) -> subprocess.Popen[bytes]:
        """Start the attempt that lies in `folder` there, once; the stream of what it writes (`remote_agent`)."""
        return self.shell.stream(self._agent("follow", folder, json.dumps(sent)))

    def cancel(self, folder: str, how: str) -> None:
        """Pass a wish on."""
        self.shell.run(self._agent("cancel", folder, how))

    def forget(self, folder: str) -> None:
        """Take the attempt's folder away there."""
        self.shell.run(self._agent("forget", folder))

    def _agent(self, *words: str) -> list[str]:
        path = ["env", f"PYTHONPATH={self.package}"] if self.package else []
        return [*path, self.python, "-m", AGENT, *words]

    def _base(self) -> tuple[str, str]:
        """The pool's folder and our package there, brought if it is not yet."""
        where, digest = shlex.quote(self.folder), package_digest()
        asking = f"mkdir -p {where} && cd {where} && pwd -P && ls package/{digest}/{COMPLETE} 2>/dev/null"
        lines = self.shell.script(f"command -v rsync >/dev/null || echo no-rsync; {asking}; true").splitlines()
        if "no-rsync" in lines:
            raise Refused("a host of the pool has no rsync", value=self.name, fix="install it there, or give the pool `shared: true`")
        base = next((line for line in lines if line.startswith("/")), "")
        if not base:
            raise Refused(
                "the pool's folder cannot be made on its host", value=f"{self.name}:{self.folder}", fix="give it another `folder`"
            )
        package = f"{base}/package/{digest}"
        if not lines[-1].endswith(COMPLETE):
            self.shell.push([(str(PACKAGE.parent), PACKAGE.name)], package, "--exclude=__pycache__")
            self.shell.run(["touch", f"{package}/{COMPLETE}"])
        return base, package

    def _checked(self, ready: Host) -> dict[str, Any]:
        """What the agent there says of itself."""
        try:
            return answer(self.shell.run(ready._agent("hello")))
        except BedplateError as error:
            fix = "install the project's packages there and name the interpreter: `python: /path/to/python` (3.11 or newer)"
            raise Refused(
                f"the pool's Python does not run on its host: {error.what}", value=f"{self.name}: {ready.python}", fix=fix
            ) from error

    def _push(self, mapped: Mapped) -> None:
        """Files of the project first; with the attempt's own file the rest is there as well."""
        attempt = mapped.attempt
        self.shell.push([(attempt.root, name) for name in mapped.root_files()], mapped.root)
        with tempfile.TemporaryDirectory() as beside:
            told = str(PurePosixPath(mapped.folder).relative_to(mapped.state) / ATTEMPT_FILE)
            write_json(Path(beside) / told, mapped.translated().to_json())
            self.shell.push([*((attempt.state, name) for name in mapped.state_files()), (beside, told)], mapped.state)


def answer(text: str) -> dict[str, Any]:
    """The JSON that the agent printed. Raises BedplateError where a login shell printed something else before."""
    try:
        return dict(json.loads(text))
    except ValueError as error:
        shown = text.strip().splitlines()[:1]
        raise BedplateError(
            "a host's shell prints something of its own", value=shown, fix="make its start files silent for commands"
        ) from error


@cache
def package_digest() -> str:
    """The digest of our own package's files, by which a host keeps it."""
    files = [path for path in sorted(PACKAGE.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    names = [path.relative_to(PACKAGE).as_posix() for path in files]
    return digest_files(PACKAGE, names)[:16]


def by_load(hosts: Sequence[Host], excluded: Sequence[str], busy: Mapping[str, int]) -> list[Host]:
    """Hosts in the order in which they are tried: the least busy first, and excluded ones only where there is no other."""
    allowed = [host for host in hosts if host.name not in excluded] or list(hosts)
    return sorted(allowed, key=lambda host: busy.get(host.name, 0))
