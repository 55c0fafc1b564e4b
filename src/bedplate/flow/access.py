"""Access: where a project's API keys are kept.

Does not know: what a key is good for (`serve.keys`).
"""

from __future__ import annotations

from pathlib import Path

from bedplate.serve.keys import KeyFile


def key_file(state: Path) -> KeyFile:
    """The keys of the project whose state folder this is."""
    return KeyFile(state / "keys" / "endpoints.json")
