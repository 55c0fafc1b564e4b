"""Bedplate: AI infrastructure in one piece. `import bedplate` is light; each name is loaded when it is first used.

Does not know: anything itself; it only names the doors.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["BedplateError"]

_WHERE = {"BedplateError": "bedplate.core.errors"}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'bedplate' has no attribute {name!r}")
