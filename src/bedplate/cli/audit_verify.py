"""`bedplate audit verify`.

Does not know: how the chain is built.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from bedplate.cli.command import AsJson, ProjectFolder, show
from bedplate.flow.auditing import audit_project


def audit_verify(project: ProjectFolder = Path(), as_json: AsJson = False) -> None:
    """Find a changed, dropped or reordered event of the ledger, up to the last signed head.

    Example: bedplate audit verify
    """
    found = audit_project(project)
    text = (
        f"{found.events} events are linked; {found.signed_heads} signed heads hold, the last at event {found.signed_through}; "
        f"{found.copies} copies outside agree"
    )
    show(asdict(found), text, as_json)
