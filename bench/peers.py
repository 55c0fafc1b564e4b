"""Peers in environments of their own: what we are measured against must not decide which packages we can have.

An environment is made once for its list of requirements and kept in the cache folder. Does not know: what is measured.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bedplate" / "peers"


def python_of(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of the environment `name` that has `requirements`; installs it the first time. Raises CalledProcessError."""
    wanted = hashlib.sha256("\n".join([sys.version, *requirements]).encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-{wanted}"
    if not (folder / "ready").exists():
        print(f"installing the peer {name}: {' '.join(requirements)}", file=sys.stderr)
        started_s = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *requirements], check=True)
        (folder / "ready").write_text(f"{time.monotonic() - started_s:.0f} s\n")
    return folder / "bin" / "python"
