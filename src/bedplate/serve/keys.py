"""API keys of a project: who may ask its endpoints, how often, and under which name they stand in line.

A key is 32 random bytes that are shown once; the file holds their SHA-256, which is enough, because nobody can guess what has that many
bits. The rate is a bucket of tokens (its depth is one second's worth, at least one) in each replica. A replica reads the file anew when it
was changed, so that a key that was taken back is refused at once.
Does not know: HTTP servers, what is asked, or where the file is.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedplate.core.atomic import write_json
from bedplate.core.clock import Clock, SystemClock, iso
from bedplate.core.errors import BedplateError, NotFound, nearest
from bedplate.serve.asgi import Call, Refused

_PREFIX = "bp_"
_NAME = r"[a-z][a-z0-9_-]{0,62}"


@dataclass(frozen=True)
class Key:
    """A key without its secret: whose it is, how many requests a second it may make (None: any), when it was made."""

    name: str
    rate: float | None
    made: str


class KeyFile:
    """The keys of a project, in one file that only its owner may read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, name: str, rate: float | None, clock: Clock) -> str:
        """Make a key and return its text, which is kept nowhere. Raises BedplateError for a name that is taken or none, or a bad rate."""
        if not re.fullmatch(_NAME, name):
            raise BedplateError("a key has a short name", value=name, fix="use a letter, then letters, digits, - and _")
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise BedplateError("a rate is a number of requests a second above 0", value=rate, fix="write for example --rate 50")
        text = _PREFIX + secrets.token_urlsafe(32)
        with self._changing() as keys:
            if name in keys:
                raise BedplateError("there is a key of this name", value=name, fix=f"bedplate keys revoke {name}, or take another name")
            keys[name] = {"digest": _digest(text), "rate": rate, "made": iso(clock.now())}
        return text

    def revoke(self, name: str) -> None:
        """Take a key back. Raises NotFound."""
        with self._changing() as keys:
            if name not in keys:
                raise NotFound("no key of this name", value=name, fix=nearest(name, keys))
            del keys[name]

    def listed(self) -> list[Key]:
        """All keys, by name."""
        return [Key(name, values["rate"], values["made"]) for name, values in sorted(self._read().items())]

    def by_digest(self) -> dict[str, Key]:
        """All keys by the SHA-256 of their text."""
        return {values["digest"]: Key(name, values["rate"], values["made"]) for name, values in self._read().items()}

    def stamp(self) -> tuple[int, int]:
        """What changes when the file does."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return (0, 0)
        return (status.st_mtime_ns, status.st_ino)

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._path.read_bytes())["keys"])
        except FileNotFoundError:
            return {}

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        """The keys, to be changed by one process at a time; written when the block ends well."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            keys = self._read()
            yield keys
            write_json(self._path, {"format": 1, "keys": keys}, mode=0o600)
        finally:
            os.close(descriptor)


class KeyGuard:
    """Lets a request pass that brings a key, and gives it the key's name. Belongs to one event loop."""

    def __init__(self, file: KeyFile, open_paths: frozenset[str], clock: Clock | None = None) -> None:
        """`open_paths` need no key: what asks whether the endpoint lives."""
        self._file = file
        self._open = open_paths
        self._clock = clock or SystemClock()
        self._stamp: tuple[int, int] | None = None
        self._known: Mapping[str, Key] = {}
        self._buckets: dict[str, tuple[float, float]] = {}

    def __call__(self, call: Call) -> None:
        """Raises Refused: 401 without a key that is known, 429 for one that asks too often."""
        if call.path in self._open:
            return
        kind, _, text = call.header(b"authorization").partition(" ")
        key = self._found(text.strip() if kind.lower() == "bearer" else call.header(b"x-api-key"))
        if key is None:
            fix = "send Authorization: Bearer KEY; `bedplate keys add NAME` makes one"
            raise Refused(401, "a key is needed", fix=fix, headers={"WWW-Authenticate": "Bearer"})
        call.caller = key.name
        if key.rate is not None:
            self._take(key.name, key.rate)

    def _found(self, text: str) -> Key | None:
        stamp = self._file.stamp()
        if stamp != self._stamp:
            self._known, self._stamp = self._file.by_digest(), stamp
        return self._known.get(_digest(text))

    def _take(self, name: str, rate: float) -> None:
        now_s, depth = self._clock.now(), max(1.0, rate)
        left, at_s = self._buckets.get(name, (depth, now_s))
        left = min(depth, left + max(0.0, now_s - at_s) * rate)
        if left < 1:
            self._buckets[name] = (left, now_s)
            wait = {"Retry-After": str(max(1, math.ceil((1 - left) / rate)))}
            raise Refused(429, "the key asks too often", value=name, fix=f"ask at most {rate:g} times a second", headers=wait)
        self._buckets[name] = (left - 1, now_s)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
