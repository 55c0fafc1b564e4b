"""Where a model version came from, as SLSA provenance v1: the predicate of an in-toto statement.

Source: https://slsa.dev/spec/v1.0/provenance.
Does not know: SLSA's levels; whether a builder meets one is for who audits it.
"""

from __future__ import annotations

from typing import Any

from bedplate.core.clock import iso
from bedplate.models.dsse import statement
from bedplate.models.evidence.facts import PRODUCER, Facts, digest_of

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = f"{PRODUCER}/build/run/v1"


def provenance(facts: Facts) -> dict[str, Any]:
    """The statement. A version that no run made has what it was imported from as its only dependency."""
    run = facts.run
    inputs = set(run.made.get("inputs", {}).values()) if run is not None else set()
    used = [
        {"uri": f"bedplate://{facts.project}/{version.ref}", "digest": digest_of(version)}
        for version in facts.versions
        if version.ref in inputs
    ]
    external: dict[str, Any] = {"project": facts.project, "output": facts.version.name}
    internal: dict[str, Any] = {}
    details: dict[str, Any] = {"builder": {"id": f"{PRODUCER}/ledger/{facts.ledger}"}}
    if run is not None:
        code = run.made.get("code")
        if code and code.get("snapshot"):
            used.append({"uri": f"bedplate:snapshot/{code['snapshot']}", "digest": {"sha256": code["snapshot"]}})
        external |= {"step": run.step, "params": dict(run.params)}
        internal = {name: run.made[name] for name in ("fingerprint", "environment", "hardware", "placement", "code") if run.made.get(name)}
        ended = {"finishedOn": iso(run.ended_at_s)} if run.ended_at_s is not None else {}
        details["metadata"] = {"invocationId": run.id, "startedOn": iso(run.created_at_s), **ended}
    elif facts.version.meta.get("source"):
        external["source"] = facts.version.meta["source"]
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": external,
            "internalParameters": internal,
            "resolvedDependencies": used,
        },
        "runDetails": details,
    }
    return statement({facts.version.ref: facts.version.digest}, PREDICATE_TYPE, predicate)
