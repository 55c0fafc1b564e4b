"""Where an endpoint's online store is: as the features step leaves it, and as the endpoint opens it.

An embedded store is a file. It is a version, so it never changes: a replica updates a copy of its own. A store in a database is one name
below which its rows lie; the version says which, and the rows are kept up to date in place.
The address with its `${NAME}`s is what is recorded; what they stand for is put in when the database is opened.
Does not know: what is in a store (`data.online`).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.core.atomic import write_json
from bedplate.data.engines.sqlite import SqliteEngine
from bedplate.data.online.open import open_engine
from bedplate.data.online.store import OnlineStore

EMBEDDED = "sqlite://"
FILE, PLACE = "online.db", "online.json"


@dataclass(frozen=True)
class Place:
    """A store in a database: its address, with variables of the environment named, and the name below which its rows lie."""

    address: str
    namespace: str

    def write(self, path: Path) -> None:
        """Put it into a file."""
        write_json(path, {"store": self.address, "namespace": self.namespace})

    @staticmethod
    def read(path: Path) -> Place:
        """What `write` put there."""
        values = json.loads(path.read_bytes())
        return Place(values["store"], values["namespace"])


def open_store(path: Path) -> OnlineStore:
    """The store of a version, to be read. Raises NotFound, DataError and Unavailable."""
    if path.name == PLACE:
        place = Place.read(path)
        return OnlineStore(open_engine(place.address), place.namespace)
    return OnlineStore(SqliteEngine(path))


def open_live(path: Path, folder: Path) -> OnlineStore:
    """The store of a version, to be read and updated: the one in the database, or a copy of the file in `folder`."""
    if path.name == PLACE:
        return open_store(path)
    own = folder / FILE
    copy_file(path, own)
    engine = SqliteEngine(own)
    engine.follow_writes()
    return OnlineStore(engine)


def copy_file(path: Path, copy: Path) -> None:
    """Copy an embedded store; the copy is there whole or not at all."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    beside = copy.with_name(f".{copy.name}.{os.getpid()}.tmp")
    beside.unlink(missing_ok=True)
    engine = SqliteEngine(path)
    try:
        engine.copy_to(beside)
        beside.replace(copy)
    finally:
        engine.close()
        beside.unlink(missing_ok=True)


def base_file(state: Path, step: str) -> Path:
    """Where it is remembered what the next store of an endpoint can begin with."""
    return state / "online" / f"{step}.json"


def read_base(state: Path, step: str) -> dict[str, Any]:
    """What was remembered there; empty when there is nothing."""
    path = base_file(state, step)
    return dict(json.loads(path.read_bytes())) if path.is_file() else {}
