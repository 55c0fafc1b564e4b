"""The courier of one attempt on a host: brings everything there, has it started, and brings home what it writes, until nothing runs.

It is a thread, so that a slow or dead connection never holds the loop up. What it has reached lies in the attempt's folder here, and every
step may be repeated, so another process takes over where it was; a lock lets one at a time be at it. From the moment that a start was
asked for, the attempt belongs to that host: no other gets it, however long the host is silent. A line of a journal that names files (a
checkpoint, an output, an end) becomes visible here after the files. Bytes are written where they stand there, so twice does no harm.
Does not know: why an attempt is started or stopped, or what its journal means to a run.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bedplate.cluster.remote_agent import is_journal
from bedplate.cluster.remote_host import Host, Refused, answer
from bedplate.cluster.remote_ssh import Lost
from bedplate.cluster.wish import read_wish
from bedplate.core.atomic import confined, write_json
from bedplate.core.attempt import Attempt
from bedplate.core.errors import BedplateError
from bedplate.core.journal import JOURNAL_FOLDER, JournalWriter
from bedplate.core.protocols import Liveness

PLACE_FILE = "remote.json"
LOCK_FILE = "courier.lock"
WRITER = "engine"
BACK_OFF_S = (0.2, 10.0)  # doubled from the one to the other
SILENCE_S = 20.0  # a stream that says nothing for so long is broken
UNKNOWN_S = 5.0
START_LIMIT_S = 60.0
TRIES = 5  # to bring home what a journal names
READ_BYTES = 1 << 20
WITH_FILES = frozenset({"checkpoint", "output", "evaluation", "ended"})
OWN_FILES = ("journal", "logs", "root", "attempt.json", "identity.json", "handle.json", "shim.lock")
LEFT_OUT = (*(f"--exclude=/{name}" for name in OWN_FILES), "--exclude=.*.tmp")  # and what is not whole yet
FOLLOWED = re.compile(r"(journal|logs)/[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Place:
    """How far an attempt has come: `placing` (no host was asked to start it), `placed` or `done`, and where."""

    phase: str = "placing"
    host: str = ""
    folder: str = ""
    python: str = ""
    package: str = ""
    told: str = ""


@dataclass
class Courier:
    """`hosts` are tried in order until one takes the attempt. A silent host that is not `declared` any more is lost: somebody says so.

    `run` is the thread's work; all else may be called from any thread.
    """

    attempt: Attempt
    hosts: Sequence[Host]
    declared: Sequence[str]
    _heard_s: float = field(default_factory=time.monotonic)
    _closed: threading.Event = field(default_factory=threading.Event)

    def liveness(self) -> Liveness:
        """What is known now: `unknown` when the host has been silent for a while."""
        if read_place(self.attempt.path).phase == "done":
            return "gone"
        return "alive" if time.monotonic() - self._heard_s < UNKNOWN_S else "unknown"

    def close(self) -> None:
        """Leave the attempt to whoever comes next; nothing there ends."""
        self._closed.set()

    def run(self) -> None:
        """Do all that is left to do, unless somebody else is at it."""
        with (self.attempt.path / LOCK_FILE).open("a") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._run()

    def _run(self) -> None:
        pause_s, begun_s, tries = BACK_OFF_S[0], time.monotonic(), 0
        while not self._closed.is_set() and self._place.phase != "done":
            before_s = self._heard_s
            try:
                self._step()
                continue
            except Lost as error:
                if self._place.phase == "placing" and time.monotonic() - begun_s > START_LIMIT_S:
                    self._fail("node_lost", f"no host of the pool could be reached: {error}")
                elif self._place.phase == "placed" and self._place.host not in self.declared:
                    self._lost("is silent, and pools.yaml does not name it any more")
            except BedplateError as error:
                tries += 1
                if tries == TRIES or isinstance(error, Refused):
                    self._fail("user_error", error.one_line())
            pause_s = BACK_OFF_S[0] if self._heard_s > before_s else min(2 * pause_s, BACK_OFF_S[1])
            self._closed.wait(pause_s)

    def _step(self) -> None:
        place = self._place
        wish = read_wish(self.attempt.path)
        if place.phase == "placing" and wish:
            self._never_started(wish)
        elif place.phase == "placing":
            self._keep(self._placed())
        else:
            self._follow(place)

    # -- to the host ---------------------------------------------------------------------------------------------------------------

    def _placed(self) -> Place:
        """Bring everything to the first host that takes it. Raises Lost where one cannot be reached, else Refused."""
        troubles: list[str] = []
        refused: Refused | None = None
        for host in self.hosts:
            try:
                ready = host.prepared(self.attempt)
            except Lost as error:
                troubles.append(str(error))
            except Refused as error:
                refused = error
            else:
                self._heard()
                self._note("tag", values={"host": host.name, "host_python": ready.version})
                return Place("placed", host.name, ready.folder, ready.python, ready.package)
        raise refused if refused is not None and not troubles else Lost("; ".join(troubles))

    def _never_started(self, wish: str) -> None:
        if wish == "stop":
            self._note("ended", status="stopped", failure=None, message="before it was started")
        self._keep(replace(self._place, phase="done"))

    # -- from the host -------------------------------------------------------------------------------------------------------------

    def _follow(self, place: Place) -> None:
        host = self._host(place)
        stream = host.follow(place.folder, None if host.shared else self._sizes())
        with stream, ended_after(stream):
            for head, data in _frames(stream):
                self._heard()
                self._pass_on_wish(host, place)
                if "error" in head:
                    raise BedplateError(f"host {place.host} could not do it: {head['error']}", fix=f"see `ssh {place.host}`")
                if "file" in head:
                    self._take(host, place, head, data)
                elif head["shim"] == "gone":
                    self._finish(host, place, bool(head["rebooted"]))
                    return
                if self._closed.is_set():
                    return
        raise Lost(f"{place.host}: the connection broke")

    def _take(self, host: Host, place: Place, head: dict[str, Any], data: bytes) -> None:
        name, at = str(head["file"]), int(head["at"])
        if FOLLOWED.fullmatch(name) is None:
            raise BedplateError(f"host {place.host} sent a file that nobody asked for", value=name, fix="cancel the run; look at the host")
        if is_journal(name):
            self._bring_files(host, place, data)
        path = self.attempt.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            while data:
                written = os.pwrite(descriptor, data, at)
                data, at = data[written:], at + written
        finally:
            os.close(descriptor)

    def _bring_files(self, host: Host, place: Place, lines: bytes) -> None:
        """Bring home what these lines of a journal name, before anybody here reads them."""
        entries = _entries(lines)
        if any(entry["kind"] in WITH_FILES for entry in entries):
            host.shell.pull(place.folder, ["."], self.attempt.folder, *LEFT_OUT)
            host.shell.pull(f"{place.folder}/root", self._declared(entries), self.attempt.root)

    def _declared(self, entries: Sequence[Mapping[str, Any]]) -> list[str]:
        """The files of the project that these entries name. Raises BedplateError for one that is outside it."""
        outputs = [entry["body"] for entry in entries if entry["kind"] == "output"]
        names = [str(output["location"]) for output in outputs if output["kind"] == "file"]
        for name in names:
            confined(Path(self.attempt.root), name)
        return names

    def _finish(self, host: Host, place: Place, rebooted: bool) -> None:
        if rebooted:
            self._lost("was started again")
        self._keep(replace(place, phase="done"))
        if not host.shared:
            with suppress(Lost, BedplateError):  # what stays there harms nobody
                host.forget(place.folder)

    def _pass_on_wish(self, host: Host, place: Place) -> None:
        wish = read_wish(self.attempt.path)
        if wish and wish != self._place.told:
            host.cancel(place.folder, wish)
            self._keep(replace(self._place, told=wish))

    # -- what is known here --------------------------------------------------------------------------------------------------------

    @property
    def _place(self) -> Place:
        return read_place(self.attempt.path)

    def _host(self, place: Place) -> Host:
        given = next((host for host in self.hosts if host.name == place.host), self.hosts[0])
        return given.at(place.host, place.python, place.package)

    def _keep(self, place: Place) -> None:
        write_json(self.attempt.path / PLACE_FILE, asdict(place))

    def _heard(self) -> None:
        self._heard_s = time.monotonic()

    def _sizes(self) -> dict[str, int]:
        found = [*self.attempt.path.glob(f"{JOURNAL_FOLDER}/*.jsonl"), *self.attempt.path.glob("logs/*.log")]
        sizes = {path.relative_to(self.attempt.path).as_posix(): path.stat().st_size for path in found}
        return {name: size for name, size in sizes.items() if name != f"{JOURNAL_FOLDER}/{WRITER}.jsonl"}

    def _note(self, kind: str, **body: Any) -> None:
        journal = JournalWriter(self.attempt.path, WRITER)
        journal.write(kind, **body)
        journal.sync()
        journal.close()

    def _lost(self, why: str) -> None:
        place = self._place
        self._note("ended", status="failed", failure="node_lost", message=f"host {place.host} {why}", node=place.host)
        self._keep(replace(place, phase="done"))

    def _fail(self, failure: str, message: str) -> None:
        """End an attempt of which nothing can be expected. What runs of it is ended, or else it is not over."""
        place = self._place
        if place.phase != "placing":
            with suppress(BedplateError):  # the host that refuses to start it runs nothing
                self._host(place).cancel(place.folder, "cancel")
        self._note("ended", status="failed", failure=failure, message=message)
        self._keep(replace(place, phase="done"))


@contextmanager
def ended_after(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a process when the block ends, however it does."""
    try:
        yield
    finally:
        process.kill()


def read_place(folder: Path) -> Place:
    """How far the attempt in `folder` has come."""
    with suppress(FileNotFoundError):
        return Place(**json.loads((folder / PLACE_FILE).read_text()))
    return Place()


def _entries(lines: bytes) -> list[dict[str, Any]]:
    """The entries of a journal; a line torn by a kill is none."""
    found = []
    for line in lines.splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and "kind" in entry:
                found.append(entry)
    return found


def _frames(stream: subprocess.Popen[bytes]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Whole frames, until the stream ends or is silent for too long."""
    assert stream.stdout is not None
    descriptor, buffer = stream.stdout.fileno(), bytearray()
    while select.select([descriptor], [], [], SILENCE_S)[0]:
        data = os.read(descriptor, READ_BYTES)
        if not data:
            return
        buffer += data
        yield from _whole(buffer)


def _whole(buffer: bytearray) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The whole frames at the beginning of `buffer`, taken out of it."""
    while (end := buffer.find(b"\n")) >= 0:
        head = answer(buffer[:end].decode(errors="replace"))
        stop = end + 1 + int(head.get("bytes", 0))
        if len(buffer) < stop:
            return
        data = bytes(buffer[end + 1 : stop])
        del buffer[:stop]
        yield head, data
