"""What a decision says: the predicate of its in-toto statement, and whether a statement speaks for a version under an alias.

The subject is the model version with its digest. The predicate holds the inputs (rules, metrics of both sides, the pinned set), the
outcome of every rule, the verdict, who decided and when.
Does not know: keys, envelopes (`dsse`), or the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bedplate.core.clock import iso
from bedplate.core.digest import digest
from bedplate.core.versions import Version
from bedplate.models.dsse import statement

PREDICATE_TYPE = "https://bedplate.dev/attestations/decision/v1"
EVALUATED = ("metrics", "production_metrics", "slices", "production_slices", "drift", "measured", "rows")


def verdict_of(decision: Mapping[str, Any]) -> str:
    """`promoted`, `withdrawn` (the alias was taken away), `pending` (approvals are missing) or `refused`."""
    if decision["promoted"]:
        return "promoted"
    return next((verdict for verdict in ("withdrawn", "pending") if decision.get(verdict)), "refused")


def decided(
    version: Version,
    alias: str,
    decision: Mapping[str, Any],
    at_s: float,
    evaluation: Mapping[str, Any],
    context: Mapping[str, Any],
) -> dict[str, Any]:
    """The statement of a decision on `version`, at `at_s` seconds since the epoch.

    `evaluation` is what the gate found, empty for a decision by hand; `context` names what else it rests on, as JSON: the versions of
    production and of the pinned set with their digests, code, and the ledger with its head.
    """
    rules = list(evaluation.get("rules", ()))
    predicate = {
        "alias": alias,
        "verdict": verdict_of(decision),
        "decidedBy": decision["by"],
        "override": bool(decision.get("override", False)),
        "why": decision.get("why", ""),
        "decidedAt": iso(at_s),
        "rules": {"when": rules, "sha256": digest(rules)},
        "checks": list(decision.get("checks", ())),
        "approvals": list(decision.get("approvals", ())),
        **{name: evaluation[name] for name in EVALUATED if evaluation.get(name) is not None},
        **context,
    }
    return statement({version.ref: version.digest}, PREDICATE_TYPE, predicate)


def objection(said: Mapping[str, Any], version: Version, alias: str) -> str:
    """Why a verified statement does not put `version` behind `alias`; empty when it does."""
    predicate = said.get("predicate", {})
    subjects = {subject.get("name"): subject.get("digest", {}).get("sha256") for subject in said.get("subject", ())}
    if said.get("predicateType") != PREDICATE_TYPE:
        return f"its statement is no decision but {said.get('predicateType')!r}"
    if version.ref not in subjects:
        return f"its statement speaks of {', '.join(map(str, subjects)) or 'nothing'}"
    if subjects[version.ref] != version.digest:
        return f"it was decided on other bytes: {str(subjects[version.ref])[:12]}, the version has {version.digest[:12]}"
    if predicate.get("alias") != alias:
        return f"it was decided for the alias {predicate.get('alias')!r}"
    if predicate.get("verdict") != "promoted":
        return f"the verdict was {predicate.get('verdict')!r}"
    return ""
