"""A keyless signature of a model's files: OpenSSF's `model_signing` command signs with a certificate that Sigstore gives to an identity.

The identity is that of the CI job it runs in (ambient credentials), else of the person who signs in with a browser. Sigstore's services
are outside: this needs the network, and what it makes names the identity for good in a public log.
Does not know: whose identity it will be, or which files a version has.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from bedplate.core.errors import EvidenceError

COMMAND = "model_signing"


def sign_keyless(model: Path, files: Collection[str]) -> bytes:
    """The Sigstore bundle over `files` of the folder `model`, none else. What the command asks is shown on standard error.

    Raises EvidenceError when the command is not installed, or did not sign.
    """
    program = shutil.which(COMMAND)
    if program is None:
        raise EvidenceError("a keyless signature needs a command", value=COMMAND, fix="pip install model-signing")
    with tempfile.TemporaryDirectory(prefix="bedplate-keyless-") as place:
        signed = Path(place) / "model.sig"
        others = [path for path in sorted(model.rglob("*")) if path.is_file() and path.relative_to(model).as_posix() not in files]
        ignored = [argument for path in others for argument in ("--ignore-paths", str(path))]
        command = [program, "sign", "sigstore", "--use_ambient_credentials", *ignored, "--signature", str(signed), str(model)]
        done = subprocess.run(command, stdout=sys.stderr.fileno(), check=False)  # its questions are no part of our output
        if done.returncode or not signed.is_file():
            raise EvidenceError(f"{COMMAND} did not sign", value=f"exit status {done.returncode}", fix="see what it printed above")
        bundle = signed.read_bytes()
    try:
        json.loads(bundle)
    except ValueError as error:
        raise EvidenceError(f"{COMMAND} wrote no Sigstore bundle", value=str(model)) from error
    return bundle
