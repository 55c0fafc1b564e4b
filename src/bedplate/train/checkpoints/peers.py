"""The tier `peer`: every rank's part also lies in the memory of a partner, on another host where there are several.

A rank sends its part to its partner and its index to rank 0; when rank 0 has all indexes, it sends the manifest to every rank, and one
rename there makes what lies with it part of a checkpoint. Reading asks one rank of each host for what that host's memory has: copies of
partners, and the host's own tier `memory`. Nothing of this needs a file system that hosts share, and no collective runs beside training.
Does not know: when a checkpoint is due, or what a part holds.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Event
from typing import Any

from bedplate.core.attempt import boot_id
from bedplate.core.errors import CheckpointError
from bedplate.train.checkpoints.exchange import GIVEN_UP_LIMIT_S, Address, Connection, Receiver, ask
from bedplate.train.checkpoints.folders import SHARED_MEMORY, FolderPlace, shared_memory
from bedplate.train.checkpoints.parts import MANIFEST_FILE, part_file, part_index
from bedplate.train.distributed import Group

TOKEN_BYTES = 32
TAKE_BYTES = 4 << 20
DECISION_LIMIT_S = 600.0  # how long rank 0 may wait for the parts of all others
REMEMBERED = 16
FILE = re.compile(r"part-\d+\.(safetensors|json)|" + re.escape(MANIFEST_FILE))
SAVE = re.compile(r"[0-9a-f]{1,32}")


def partner(rank: int, nodes: Sequence[str]) -> int:
    """The rank that keeps the part of `rank`: half the world away, or the next after that on another node where there is one."""
    size = len(nodes)
    first = (rank + max(1, size // 2)) % size
    around = [(first + step) % size for step in range(size)]
    return next((each for each in around if nodes[each] != nodes[rank]), first)


@dataclass(frozen=True)
class _Met:
    """The group as its ranks know it: the shared token, and of each rank its address and node."""

    rank: int
    token: bytes
    addresses: tuple[Address, ...]
    nodes: tuple[str, ...]

    @property
    def hosts(self) -> tuple[Address, ...]:
        """One address of each node, the own one first."""
        first = {self.nodes[self.rank]: self.addresses[self.rank]}
        for node, address in zip(self.nodes, self.addresses, strict=True):
            first.setdefault(node, address)
        return tuple(first.values())


class PeerTier:
    """The tier as one rank sees it: what it keeps for others, and the way to those that keep for it."""

    name = "peer"
    durable = False

    def __init__(self, state: Path, root: Path = SHARED_MEMORY, node: str | None = None) -> None:
        """`root` is where this host's memory lies as files, `node` the name of the host; nothing is opened yet."""
        self._state = state
        self._memory = shared_memory(state, root)
        self._node = node or f"{socket.gethostname()}/{boot_id()}"
        self._met: _Met | None = None
        self._receiver: Receiver | None = None
        self._own: FolderPlace | None = None
        self._reclaimed = False
        self._given_up = Event()
        self._changed = Condition()
        self._offers: dict[str, dict[int, bytes | None]] = {}
        self._decided: dict[str, bool] = {}

    def meet(self, group: Group, locations: str) -> None:
        """Learn where the other ranks listen; what killed saves left below `locations` is taken away. Every rank calls this; once counts.

        Raises OSError when this rank cannot listen.
        """
        if self._met is not None:
            return
        self._own = FolderPlace(self.name, self._memory.root / "peer" / f"rank-{group.rank}", durable=False)
        self._own.sweep(locations)
        token = group.broadcast(secrets.token_bytes(TOKEN_BYTES) if group.rank == 0 else None)
        self._receiver = Receiver(group.address, token, self._answer)
        address = self._receiver.address
        mine = json.dumps({"host": address.host, "port": address.port, "node": self._node}).encode()
        gathered = group.gather(mine)
        table = json.loads(group.broadcast(json.dumps([json.loads(each) for each in gathered]).encode() if group.rank == 0 else None))
        addresses = tuple(Address(each["host"], each["port"]) for each in table)
        self._met = _Met(group.rank, token, addresses, tuple(each["node"] for each in table))

    @property
    def useful(self) -> bool:
        """Whether there is anybody who could keep a part."""
        return self._met is not None and len(self._met.addresses) > 1

    def abandon(self) -> None:
        """A rank was lost: whoever does not answer within a second does not answer any more."""
        self._given_up.set()

    def close(self) -> None:
        """Listen no more. What is kept stays: it outlives the processes."""
        with self._changed:
            self._given_up.set()
            self._changed.notify_all()
        if self._receiver is not None:
            self._receiver.close()

    # -- writing ------------------------------------------------------------------------------------------------------------------

    def send(self, base: str, save: str, data: memoryview, index: Callable[[], bytes]) -> bytes:
        """Put this rank's part into the partner's memory, then its index, which `index` gives and is returned.

        Raises OSError when the partner is gone, CheckpointError when it has no room.
        """
        met = self._known()
        to = met.addresses[partner(met.rank, met.nodes)]
        self._ask(to, {"do": "keep", "base": base, "save": save, "name": part_file(met.rank)}, data)
        text = index()
        self._ask(to, {"do": "keep", "base": base, "save": save, "name": part_index(met.rank)}, text)
        return text

    def offer(self, save: str, index: bytes) -> None:
        """Tell rank 0 that this rank's part is kept, and wait for its decision. Raises OSError, and CheckpointError when it is none."""
        met = self._known()
        self._ask(met.addresses[0], {"do": "offer", "save": save, "rank": met.rank, "kept": True}, index, limit_s=DECISION_LIMIT_S)

    def refuse(self, save: str) -> None:
        """Have nobody wait for this rank's part: it is not kept."""
        met = self._known()
        if met.rank == 0:
            self.decide(save, done=False)
        else:
            with suppress(OSError, CheckpointError):  # then rank 0 is gone, or has decided so
                self._ask(met.addresses[0], {"do": "offer", "save": save, "rank": met.rank, "kept": False})

    def gathered(self, save: str, index: bytes, is_gone: Callable[[int], bool]) -> list[bytes]:
        """On rank 0: the indexes of all parts, by rank. Raises CheckpointError when one does not come."""
        met = self._known()
        deadline_s = time.monotonic() + DECISION_LIMIT_S
        with self._changed:
            offers = self._offers.setdefault(save, {})
            offers[met.rank] = index
            for rank in range(len(met.addresses)):
                while rank not in offers:
                    if self._given_up.is_set():
                        deadline_s = min(deadline_s, time.monotonic() + GIVEN_UP_LIMIT_S)
                    if is_gone(rank) or time.monotonic() > deadline_s:
                        raise CheckpointError(f"the part of rank {rank} did not come to its partner")
                    self._changed.wait(0.05)
                if offers[rank] is None:
                    raise CheckpointError(f"the partner of rank {rank} could not keep its part")
            return [bytes(offers[rank] or b"") for rank in range(len(met.addresses))]

    def commit(self, base: str, save: str, location: str, manifest: bytes) -> None:
        """On rank 0: make what every rank keeps of this save a checkpoint. Raises OSError, CheckpointError."""
        for address in self._known().addresses:
            self._ask(address, {"do": "commit", "base": base, "save": save, "location": location}, manifest)

    def decide(self, save: str, *, done: bool) -> None:
        """On rank 0: let the others go on."""
        with self._changed:
            self._offers.pop(save, None)
            self._decided[save] = done
            for old in list(self._decided)[:-REMEMBERED]:
                del self._decided[old]
            self._changed.notify_all()

    def delete(self, location: str) -> None:
        """Take a checkpoint away on every host; one that does not answer has lost it anyway, or gives it back with its next run."""
        for address in self._known().hosts:
            with suppress(OSError, CheckpointError):
                self._ask(address, {"do": "delete", "location": location})

    # -- reading ------------------------------------------------------------------------------------------------------------------

    def small(self, location: str, name: str) -> bytes:
        """The content of a small file. Raises CheckpointError when no host has it."""
        return bytes(self._first({"do": "read", "location": location, "name": name, "begin": 0, "end": None})[1])

    def file(self, location: str, name: str, nbytes: int) -> PeerBytes:
        """A file of that size. Raises CheckpointError when no host has it, or only of another size."""
        address, data = self._first({"do": "size", "location": location, "name": name, "expected": nbytes})
        del data
        return PeerBytes(self, address, location, name)

    def chunk(self, address: Address | None, location: str, name: str, begin: int, end: int) -> memoryview:
        """Some bytes of a file at one host. Raises CheckpointError."""
        header = {"do": "read", "location": location, "name": name, "begin": begin, "end": end}
        try:
            return memoryview(self._read_here(header) if address is None else self._ask(address, header))
        except OSError as error:
            raise CheckpointError("a checkpoint's file cannot be read", value=f"{self.name}: {location}/{name}") from error

    def _first(self, header: Mapping[str, Any]) -> tuple[Address | None, bytearray]:
        """The answer of the first host that has one; without a group only this one is asked."""
        problem: Exception | None = None
        for address in self._met.hosts if self._met is not None else (None,):
            try:
                return address, self._read_here(header) if address is None else self._ask(address, header)
            except (OSError, CheckpointError) as error:
                problem = problem or error
        raise CheckpointError(
            "a checkpoint's file is with no peer", value=f"{self.name}: {header['location']}/{header['name']}"
        ) from problem

    # -- what is answered ---------------------------------------------------------------------------------------------------------

    def _answer(self, header: dict[str, Any], connection: Connection) -> None:
        act = {"keep": self._keep, "offer": self._offered, "commit": self._commit, "delete": self._delete}.get(header["do"], self._read)
        act(header, connection)

    def _keep(self, header: Mapping[str, Any], connection: Connection) -> None:
        """Take a file. Written by calls, not through a map: memory that is full is an error then and not a signal."""
        target = self._begun(header) / _checked(header["name"], FILE)
        room = memoryview(bytearray(min(TAKE_BYTES, max(1, int(header["bytes"])))))
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            left = int(header["bytes"])
            while left:
                block = room[: min(left, len(room))]
                connection.fill(block)
                left -= len(block)
                while block:
                    block = block[os.write(descriptor, block) :]
        finally:
            os.close(descriptor)
        connection.send({"done": True})

    def _offered(self, header: Mapping[str, Any], connection: Connection) -> None:
        save, rank = _checked(header["save"], SAVE), int(header["rank"])
        index = bytes(connection.rest(header))
        with self._changed:
            if save not in self._decided:
                self._offers.setdefault(save, {})[rank] = index if header["kept"] else None
                self._changed.notify_all()
                self._changed.wait_for(lambda: save in self._decided or self._given_up.is_set(), DECISION_LIMIT_S)
            done = self._decided.get(save, False)
        connection.send({"done": done, "why": "rank 0 could not commit it"})

    def _commit(self, header: Mapping[str, Any], connection: Connection) -> None:
        manifest = bytes(connection.rest(header))
        assert self._own is not None
        self._own.commit(self._begun(header), header["location"], manifest)
        if not self._reclaimed:  # what this run went on from is not needed any more
            self._reclaimed = True
            for each in self._kept_here():
                each.reclaim(self._state, self._state / _attempt_of(header["location"]))
        connection.send({"done": True})

    def _delete(self, header: Mapping[str, Any], connection: Connection) -> None:
        for each in self._kept_here():
            if not each.free(header["location"]):
                each.delete(header["location"])
        connection.send({"done": True})

    def _read(self, header: Mapping[str, Any], connection: Connection) -> None:
        connection.send({"done": True}, memoryview(self._read_here(header)))

    def _read_here(self, header: Mapping[str, Any]) -> bytearray:
        """Bytes of the first file in this host's memory that has them. Raises CheckpointError."""
        location, name = header["location"], _checked(header["name"], FILE)
        for place in (*self._kept_here(), self._memory):
            path = place.path(location) / name
            with suppress(OSError), path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if header["do"] == "size" and size == header["expected"]:
                    return bytearray()
                if header["do"] == "read":
                    file.seek(int(header["begin"]))
                    return bytearray(file.read(size if header["end"] is None else int(header["end"]) - int(header["begin"])))
        raise CheckpointError("a checkpoint's file is not in this host's memory", value=f"{location}/{name}")

    def _kept_here(self) -> list[FolderPlace]:
        """What the ranks of this host keep for others, also those of an earlier, larger group."""
        return [FolderPlace(self.name, path, durable=False) for path in sorted((self._memory.root / "peer").glob("rank-*"))]

    def _begun(self, header: Mapping[str, Any]) -> Path:
        assert self._own is not None
        return self._own.begun(header["base"], _checked(header["save"], SAVE))

    def _known(self) -> _Met:
        if self._met is None:
            raise CheckpointError("the ranks have not met yet", fix="a tier `peer` is written by a run with several workers")
        return self._met

    def _ask(self, address: Address, header: Mapping[str, Any], payload: memoryview | bytes = b"", **limit: float) -> bytearray:
        return ask(address, self._known().token, header, payload, given_up=self._given_up, **limit)


@dataclass(frozen=True)
class PeerBytes:
    """A file in a host's memory, read by ranges."""

    tier: PeerTier
    address: Address | None
    location: str
    name: str

    def chunk(self, begin: int, end: int) -> memoryview:
        """The bytes from `begin` to before `end`. Raises CheckpointError."""
        return self.tier.chunk(self.address, self.location, self.name, begin, end)


def _checked(text: Any, form: re.Pattern[str]) -> str:
    if not isinstance(text, str) or not form.fullmatch(text):
        raise CheckpointError("a name that no checkpoint has", value=text)
    return text


def _attempt_of(location: str) -> str:
    """`runs/RUN/TOKEN` of `runs/RUN/TOKEN/checkpoints/step-N`."""
    return location.rpartition("/checkpoints/")[0]
