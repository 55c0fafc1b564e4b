"""The environment that a model needs: the interpreter, the distributions that this process has imported, and what those require.

Requirements are followed because libraries import some of theirs late: the same training gives the same lock, on whichever way it came to
its end.
Does not know: which of them a model really calls; one that was imported is locked.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import sys
from functools import cache
from typing import Any

_NAME = re.compile(r"[A-Za-z0-9._-]+")


def environment_lock() -> dict[str, Any]:
    """`python`, `implementation`, `platform` and `packages` ({distribution: version}, sorted), as JSON."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": f"{platform.system().lower()}-{platform.machine()}",
        "packages": imported_packages(),
    }


def imported_packages() -> dict[str, str]:
    """The distributions of which a top-level module is imported, and all that they require and is installed, with versions, by name."""
    owners = _owners()
    tops = {name.partition(".")[0] for name in tuple(sys.modules)} - set(sys.stdlib_module_names)
    queue = ["bedplate", *(owner for top in tops for owner in owners.get(top, ()))]  # an editable installation owns no module
    found: dict[str, str] = {}
    while queue:
        name = _canonical(queue.pop())
        known = _installed(name)
        if known is not None and name not in found:
            version, required = known
            found[name] = version
            queue.extend(required)
    return dict(sorted(found.items()))


@cache
def _owners() -> dict[str, list[str]]:
    """The distributions that each top-level module belongs to; reading them all takes 0.2 s, so once a process."""
    return dict(importlib.metadata.packages_distributions())


@cache
def _installed(name: str) -> tuple[str, tuple[str, ...]] | None:
    """The version of a distribution and the names of what it requires, extras left out; None when it is not installed."""
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    asked = [line for line in distribution.requires or () if "extra ==" not in line]
    return distribution.version, tuple(match[0] for match in map(_NAME.match, asked) if match)


def _canonical(name: str) -> str:
    """A distribution's name as the index writes it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
