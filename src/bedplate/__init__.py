"""Bedplate: AI infrastructure in one piece. `import bedplate` is light; each name is loaded when it is first used.

    with bedplate.open_project("examples/flights") as project:
        print(project.plan().text())
        project.up()

Does not know: anything itself; it only names the doors.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bedplate.core.errors import BedplateError, DataError, JobError, LedgerError, NotFound, SpecError, Unavailable
    from bedplate.core.lineage import Node
    from bedplate.core.plan import Plan
    from bedplate.core.record import RunRecord
    from bedplate.core.versions import Version
    from bedplate.flow.opened import OpenProject, open_project

__all__ = [
    "BedplateError",
    "DataError",
    "JobError",
    "LedgerError",
    "Node",
    "NotFound",
    "OpenProject",
    "Plan",
    "RunRecord",
    "SpecError",
    "Unavailable",
    "Version",
    "open_project",
]

_MODULES = {
    "bedplate.core.errors": ("BedplateError", "DataError", "JobError", "LedgerError", "NotFound", "SpecError", "Unavailable"),
    "bedplate.core.lineage": ("Node",),
    "bedplate.core.plan": ("Plan",),
    "bedplate.core.record": ("RunRecord",),
    "bedplate.core.versions": ("Version",),
    "bedplate.flow.opened": ("OpenProject", "open_project"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'bedplate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
