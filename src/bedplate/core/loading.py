"""Loading by name: commands, engines and runtimes stand in tables and are imported only when they are used.

Does not know: which tables there are; `flow` and `cli` hold them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
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
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if entry.extra is None or (error.name or "").startswith("bedplate"):
            raise
        raise missing_extra(f"{noun} {name!r}", entry.extra, error) from error


def missing_extra(needer: str, extra: str, error: ModuleNotFoundError) -> Unavailable:
    """The one clear line for an optional dependency that is not installed."""
    return Unavailable(f"{needer} needs the package {error.name!r}", fix=f"pip install 'bedplate[{extra}]'")
