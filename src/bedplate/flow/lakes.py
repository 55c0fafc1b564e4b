"""The lake of a project: where `lake:` says, else in its state folder.

Does not know: what is in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bedplate.data.lake import Lake


class Owner(Protocol):
    """What has a lake: an open project, or a step at work."""

    @property
    def state(self) -> Path:
        """The folder of all that the project keeps on this machine."""

    @property
    def lake_uri(self) -> str:
        """What the project file says; empty for the state folder."""


def lake_of(owner: Owner) -> Lake:
    """The lake. Locks lie in the state folder also where its tables do not."""
    folder = owner.state / "lake"
    return Lake(owner.lake_uri or folder, folder)
