"""Who has an endpoint's public port: a file that names one router, and the port of its own at which each router can be asked.

A new version's router writes itself there; the one before then gives the port up, and takes it back when it is named again, or when the
one that is named has died.
Does not know: sockets, shares of requests.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bedplate.core.atomic import write_json
from bedplate.core.attempt import Identity, is_alive, own_identity


@dataclass(frozen=True)
class Holder:
    """A router: its run, the model version behind it, its process, the port of its own, and whether the public port is open there."""

    run: str
    model: str
    identity: Identity
    inner: int
    open: bool = False

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return is_alive(self.identity)


class Doors:
    """The files of one endpoint, in the folder of endpoints: one of the door, and one for each router."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        """Nothing is read yet."""
        self._folder = folder / f"{endpoint}.routers"
        self._door = self._folder / "door"

    def holder(self) -> str | None:
        """The run that is to have the public port."""
        try:
            return str(json.loads(self._door.read_text()))
        except FileNotFoundError:
            return None

    def router(self, run: str) -> Holder | None:
        """What the router of a run said of itself last."""
        try:
            values: dict[str, Any] = json.loads((self._folder / f"{run}.json").read_text())
        except FileNotFoundError:
            return None
        return Holder(**{**values, "identity": Identity(**values["identity"])})

    def say(self, run: str, model: str, token: int, inner: int, *, is_open: bool) -> None:
        """What this process is, for other routers."""
        write_json(self._folder / f"{run}.json", asdict(Holder(run, model, own_identity(token), inner, is_open)))

    def give(self, run: str) -> None:
        """Name who is to have the public port."""
        write_json(self._door, run)

    def mine(self, run: str) -> bool:
        """Whether the public port is to be open at the router of `run`: it is named, or who is named has died."""
        named = self.holder()
        if named is None or named == run:
            return True
        other = self.router(named)
        return other is None or not other.alive
