"""Loading by name: commands, engines and runtimes stand in tables and are imported only when they are used.

Does not know: which tables there are; `flow` and `cli` hold them.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bedplate.core.errors import NotFound, Unavailable, nearest


@dataclass(frozen=True)
class Entry:
    """A row of a table: `target` is `module:attribute`, `extra` the optional dependency that it needs, `summary` one line for people."""

    target: str
    summary: str
    extra: str | None = None


def load(table: Mapping[str, Entry], name: str, noun: str) -> Any:
    """What a table's row names.

    Raises NotFound for an unknown name, and Unavailable with the install command when the row's extra is not installed.
    """
    entry = table.get(name)
    if entry is None:
        raise NotFound(f"no such {noun}", value=name, fix=nearest(name, table))
    module, _, attribute = entry.target.partition(":")
    try:
        with _collection_paused():
            return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if entry.extra is None or (error.name or "").startswith("bedplate"):
            raise
        raise missing_extra(f"{noun} {name!r}", entry.extra, error) from error


@contextmanager
def _collection_paused() -> Iterator[None]:
    """No garbage collection while modules are imported: it finds nothing there, and takes 0.6 of the 2.9 s of torch with torch._dynamo."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def missing_extra(needer: str, extra: str, error: ModuleNotFoundError) -> Unavailable:
    """The one clear line for an optional dependency that is not installed."""
    return Unavailable(f"{needer} needs the package {error.name!r}", fix=f"pip install 'bedplate[{extra}]'")
