"""Prices brought up to date: from the file or address that `pools.yaml` names, into the same lines of `pools.yaml`.

The source is JSON: pool to `{"on_demand": 1.2, "spot": 0.4, "source": "...", "at": "2026-11-01"}`. Only the values of price fields that
the file already has are replaced, so comments and order stay; the new text must be a valid file before it takes the old one's place.
Does not know: where prices come from, or who publishes them.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bedplate.core import source as yaml_source
from bedplate.core.atomic import write_bytes
from bedplate.core.errors import DataError, NotFound
from bedplate.core.pools_file import PoolsFile, Price, read_pools
from bedplate.core.project import find_pools
from bedplate.flow.workspace import Workspace

FIELDS = ("on_demand", "spot", "source", "at")
LIMIT_BYTES = 1_000_000
TIMEOUT_S = 20.0


def refresh(workspace: Workspace) -> dict[str, str]:
    """Replace prices; returns pool to what changed. Raises NotFound without a source and DataError for one that cannot be used."""
    path = find_pools(workspace.project.root, workspace.settings.home)
    declared = read_pools(path) if path else PoolsFile()
    if path is None or declared.prices_from is None:
        raise NotFound("no source of prices is declared", fix="put `prices_from: FILE or https://...` into pools.yaml")
    prices = _prices(declared.prices_from, path.parent)
    text, changed = path.read_text(encoding="utf-8"), {}
    for name, found in prices.items():
        pool = declared.pools.get(name)
        if pool is not None and pool.price is not None:
            text, said = _replaced(text, name, pool.price, found)
            changed.update({name: said} if said else {})
    yaml_source.parse(text, path.name)
    PoolsFile.model_validate(yaml_source.parse(text, path.name).values)
    if changed:
        write_bytes(path, text.encode())
    return changed


def _prices(place: str, folder: Path) -> dict[str, dict[str, Any]]:
    try:
        if place.startswith("https://"):
            with urllib.request.urlopen(place, timeout=TIMEOUT_S) as answer:  # noqa: S310 - https only, see above
                body = answer.read(LIMIT_BYTES + 1)
        else:
            path = (folder / place).resolve()
            if not path.is_relative_to(folder.resolve()):
                raise ValueError("it lies outside the folder of pools.yaml")
            body = path.read_bytes()
        if len(body) > LIMIT_BYTES:
            raise ValueError(f"more than {LIMIT_BYTES} bytes")
        values = json.loads(body)
        if not isinstance(values, dict):
            raise ValueError("it holds no mapping of pools")
        return {name: Price.model_validate(price).model_dump(mode="json", exclude_unset=True) for name, price in values.items()}
    except (OSError, ValueError) as error:
        raise DataError(f"the prices cannot be read: {error}", value=place, fix="see docs/how-to/pools.md for their form") from error


def _replaced(text: str, name: str, before: Price, found: Mapping[str, Any]) -> tuple[str, str]:
    """The file's text with the price of one pool replaced, and what changed."""
    old = before.model_dump(mode="json")
    lines = text.split("\n")
    source = yaml_source.parse(text, "pools.yaml")
    changes = []
    for field in FIELDS:
        place = ("pools", name, "price", field)
        if field in found and found[field] != old[field] and place in source.lines:
            number = source.lines[place] - 1
            start = source.lines["pools", name] - 1 if number == source.lines["pools", name] - 1 else number
            pattern = rf"(\b{field}\s*:\s*)(\"[^\"]*\"|'[^']*'|[^,}}#\n]+?)(\s*(?:[,}}#]|$))"
            lines[start] = _with(lines[start], pattern, json.dumps(found[field]) if isinstance(found[field], str) else f"{found[field]:g}")
            changes.append(f"{field} {old[field]} -> {found[field]}")
    return "\n".join(lines), ", ".join(changes)


def _with(line: str, pattern: str, value: str) -> str:
    """The line with another value where the pattern finds one; a value with a backslash stays as it is."""
    return re.sub(pattern, lambda match: f"{match[1]}{value}{match[3]}", line, count=1)
