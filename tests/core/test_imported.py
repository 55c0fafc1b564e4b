"""The environment lock: what this process imported and what that requires, and nothing else."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import sys

import numpy  # noqa: F401 - imported to be found

from bedplate.core.imported import environment_lock, imported_packages

ASK = "import json; from bedplate.core.imported import environment_lock; {}; print(json.dumps(environment_lock()))"


def lock_after(statement: str) -> dict[str, str]:
    """The packages that a fresh process locks once it has done something."""
    done = subprocess.run([sys.executable, "-c", ASK.format(statement)], capture_output=True, text=True, check=True)
    packages: dict[str, str] = json.loads(done.stdout)["packages"]
    return packages


def test_imported_distributions_are_locked_with_their_versions() -> None:
    packages = imported_packages()
    for name in ("numpy", "pytest", "bedplate"):
        assert packages[name] == importlib.metadata.version(name)
    assert list(packages) == sorted(packages)
    lock = environment_lock()
    assert (lock["python"], lock["implementation"]) == (platform.python_version(), platform.python_implementation())
    assert lock["platform"].startswith("linux-")


def test_what_was_not_imported_is_not_locked() -> None:
    packages = lock_after("pass")
    assert "pytest" not in packages
    assert "torch" not in packages
    assert "bedplate" in packages


def test_what_a_library_imports_late_is_locked_from_the_start() -> None:
    early = lock_after("import hypothesis")
    late = lock_after("import hypothesis, sortedcontainers")
    assert "sortedcontainers" in early
    assert early == late
