"""What was asked of an attempt that runs elsewhere, kept in its folder here until it was passed on.

A stop or a cancel that nobody could hear is not lost, and a cancel is never taken back by a stop.
Does not know: how it is passed on.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Literal

from bedplate.core.atomic import write_json

WISH_FILE = "wish.json"
TOLD_FILE = "wish-told.json"


def wish(folder: Path, how: Literal["stop", "cancel"]) -> None:
    """Write down that the attempt in `folder` shall stop or be cancelled."""
    if read_wish(folder) != "cancel":
        write_json(folder / WISH_FILE, {"how": how})


def read_wish(folder: Path) -> str:
    """What was asked of the attempt in `folder`: "stop", "cancel" or nothing."""
    return _how(folder / WISH_FILE)


def untold(folder: Path) -> str:
    """What was asked and has not been passed on yet."""
    asked = read_wish(folder)
    return "" if asked == _how(folder / TOLD_FILE) else asked


def told(folder: Path, how: str) -> None:
    """Write down that it was passed on."""
    write_json(folder / TOLD_FILE, {"how": how})


def _how(path: Path) -> str:
    with suppress(FileNotFoundError):
        return str(json.loads(path.read_text())["how"])
    return ""
