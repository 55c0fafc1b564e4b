"""The model step: a model that was made elsewhere is brought in, examined, and sealed as a version.

Does not know: how an address is read (`models.foreign`) or which files are safe (`models.packaging`).
"""

from __future__ import annotations

import shutil
from typing import Any

from bedplate.core.attempt import Attempt
from bedplate.core.errors import DataError
from bedplate.core.package import OBJECTS
from bedplate.flow.steps.context import StepContext
from bedplate.models.foreign.sources import Fetched, fetch
from bedplate.models.packaging.assemble import assemble, through_store

UNKNOWN_LICENSE = "unknown"
_REQUIREMENTS = ("requirements.txt", "conda.yaml", "python_env.yaml")


def work(attempt: Attempt) -> int:
    """Bring the files here and make the version. Returns 0."""
    step = StepContext(attempt)
    spec = attempt.spec
    scratch = attempt.out / "fetched"
    shutil.rmtree(scratch, ignore_errors=True)
    found = fetch(spec["from"], spec["files"], step.root, scratch)
    license_ = _license(spec["license"], found)
    facts = {"origin": dict(found.facts), "license": license_, "left_out": list(found.left_out), "params": {}}
    folder = attempt.out / "model"
    digest, manifest = assemble(
        found.folder,
        folder,
        facts=facts,
        trusted=spec.get("trusted", ()),
        names=found.names,
        place=through_store(step.state / OBJECTS),
        environment=_environment(found),
    )
    shutil.rmtree(scratch, ignore_errors=True)
    for left in found.left_out:
        print(f"left out {left['name']} ({left['why']}, sha256 {left['sha256']})")  # noqa: T201 - standard output is the run's log
    meta: dict[str, Any] = {name: manifest[name] for name in ("origin", "license", "left_out", "weights", "files", "params")}
    step.output(attempt.step, "model", digest, folder, **meta)
    return 0


def _license(declared: str | None, found: Fetched) -> str:
    """The license that the project declares, or the card's. Raises DataError when they differ: somebody is wrong about it."""
    told = found.facts.get("card_license")
    if declared is not None and told is not None and declared.lower() != str(told).lower():
        fix = f"read the card, and declare `license: {told}`"
        raise DataError(f"the model's card says that its license is {told!r}", value=declared, fix=fix)
    return declared or told or UNKNOWN_LICENSE


def _environment(found: Fetched) -> dict[str, Any]:
    """A model from elsewhere was not made by this interpreter: what it needs is in its own files, where it says so."""
    return {"python": None, "packages": {}, "declared_in": [name for name in _REQUIREMENTS if name in found.names]}
