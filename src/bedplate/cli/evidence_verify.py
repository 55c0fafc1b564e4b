"""`bedplate evidence verify`.

Does not know: what is checked. Needs no project and no ledger.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bedplate.cli.command import AsJson, show
from bedplate.flow.deciding import read_public_key
from bedplate.models.evidence.verifying import verify_folder


def evidence_verify(
    folder: Annotated[Path, typer.Argument(help="a folder that `bedplate evidence` wrote")],
    key: Annotated[Path | None, typer.Option(help="the public key that must have signed, as `bedplate audit key` writes it")] = None,
    as_json: AsJson = False,
) -> int:
    """What holds of an evidence folder and what does not, line by line, without the ledger; exit code 1 when anything does not hold.

    Example: bedplate evidence verify audit/delay-7 --key project.pub.pem
    """
    findings = verify_folder(folder, read_public_key(key) if key is not None else None)
    wrong = [finding for finding in findings if not finding.holds]
    width = max(len(finding.what) for finding in findings)
    lines = [f"{'holds' if finding.holds else 'WRONG'}  {finding.what.ljust(width)}  {finding.why}" for finding in findings]
    lines.append(f"{len(wrong)} of {len(findings)} checks do not hold" if wrong else f"all {len(findings)} checks hold")
    show({"holds": not wrong, "findings": [asdict(finding) for finding in findings]}, "\n".join(lines), as_json)
    return 1 if wrong else 0
