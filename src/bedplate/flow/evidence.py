"""Writing the evidence of a model version: one folder that verifies offline.

Does not know: what each file says (`models.evidence`), or where the facts come from (`gathering`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

from bedplate.core.clock import iso
from bedplate.core.errors import LedgerError
from bedplate.core.heads import key_id, sign_head, signing_key
from bedplate.core.ledger import Ledger, Link, SignedHead
from bedplate.core.lineage import trace
from bedplate.flow.deciding import public_keys, public_pem
from bedplate.flow.facts import location_of
from bedplate.flow.gathering import gather
from bedplate.flow.workspace import Workspace
from bedplate.models import dsse
from bedplate.models.card import card
from bedplate.models.evidence import chain
from bedplate.models.evidence.annex import annex
from bedplate.models.evidence.bom import bom
from bedplate.models.evidence.facts import Facts
from bedplate.models.evidence.folder import check_absent, encoded, write
from bedplate.models.evidence.keyless import sign_keyless
from bedplate.models.evidence.openlineage import events
from bedplate.models.evidence.pages import KEYLESS_FILE, cost_page, evaluation_page, index, readme, sheet_page
from bedplate.models.evidence.provenance import provenance
from bedplate.models.evidence.signature import model_key, sign_model
from bedplate.models.evidence.signature import public_pem as model_pem
from bedplate.models.evidence.verifying import MODEL_KEY, PROJECT_KEY

Part = Literal["model", "keyless"]


def write_evidence(workspace: Workspace, ref: str, out: Path | None = None, parts: Collection[Part] = ()) -> Path:
    """Write the folder (`evidence-NAME-NUMBER` below the project unless named) and return its path.

    Of the `parts` that are left out otherwise, `model` is the model's files, and `keyless` a Sigstore signature by who runs this.

    Raises NotFound, CheckpointError for a model whose files were changed, EvidenceError without a keyless signature that was asked for,
    and BedplateError when the folder exists.
    """
    version = workspace.records.version(ref)
    folder = out if out is not None else workspace.project.root / f"evidence-{version.name}-{version.number}"
    check_absent(folder)
    facts = gather(workspace, version.ref)
    files = _files(workspace, facts)
    place = location_of(workspace, facts.version)
    inside = [*json.loads(facts.manifest)["files"], "manifest.json"]
    copies = {f"model/{name}": place / name for name in inside} if "model" in parts else {}
    if "keyless" in parts:
        files[KEYLESS_FILE] = sign_keyless(place, inside)
    names = [*files, *copies, "attestations/folder.dsse.json", "README.md", "SHA256SUMS"]
    files["README.md"] = readme(facts, names).encode()
    files["index.html"] = index(facts, names).encode()
    about = {"version": facts.version.ref, "digest": facts.version.digest, "ledger": facts.ledger, "project": facts.project}
    write(folder, files, copies, about, signing_key(workspace.settings.home))
    return folder


def _files(workspace: Workspace, facts: Facts) -> dict[str, bytes]:
    home = workspace.settings.home
    key, files_key = signing_key(home), model_key(home)
    digests = {name: entry["sha256"] for name, entry in json.loads(facts.manifest)["files"].items()}
    signed = sign_model(facts.version.ref, {**digests, "manifest.json": facts.version.digest}, files_key)
    files = {
        "annex-iv.md": annex(facts).encode(),
        "attestations/provenance.dsse.json": encoded(dsse.sign(provenance(facts), key)),
        "bom.cdx.json": encoded(bom(facts)),
        "card.md": card(_card(facts)).encode(),
        "chain.jsonl": _chain(workspace, facts),
        "cost.md": cost_page(facts.spent).encode(),
        "evaluation.md": evaluation_page(facts).encode(),
        PROJECT_KEY: public_pem(key.public_key()),
        MODEL_KEY: model_pem(files_key),
        "lineage.txt": trace(workspace.records, facts.version).text().encode() + b"\n",
        "manifest.json": facts.manifest,
        "model.sig": json.dumps(signed).encode(),
        "openlineage.jsonl": b"".join(json.dumps(event, sort_keys=True).encode() + b"\n" for event in events(facts)),
    }
    for sheet in facts.sheets:
        files[f"data/{re.sub(r'[^A-Za-z0-9_.-]', '_', sheet.version.ref)}.md"] = sheet_page(sheet).encode()
    return {**files, **_decisions(home, facts)}


def _decisions(home: Path, facts: Facts) -> dict[str, bytes]:
    """The envelopes of the decisions that moved an alias to the version, and the keys of others that signed them."""
    files: dict[str, bytes] = {}
    known = public_keys(home)
    for number, (alias, move) in enumerate(facts.decisions, start=1):
        envelope = move.decision.get("envelope")
        if envelope is None:
            continue
        files[f"attestations/decision-{number}-{re.sub(r'[^A-Za-z0-9_.-]', '_', alias)}.dsse.json"] = encoded(envelope)
        for signature in envelope.get("signatures", ()):
            if signature.get("keyid") in known and signature["keyid"] != key_id(signing_key(home).public_key()):
                files[f"keys/{signature['keyid']}.pub.pem"] = public_pem(known[signature["keyid"]])
    return files


def _chain(workspace: Workspace, facts: Facts) -> bytes:
    """From the first event that concerns the version to the first signed head after the last."""
    ledger = workspace.ledger
    told = ledger.about(_subjects(workspace, facts))
    first, last = told[0].seq, told[-1].seq
    wanted = {event.seq for event in told}
    head = _head(workspace, last)
    before = ledger.digest_at(first - 1) or ledger.beginning().digest

    def shown(link: Link) -> bool:
        return link.seq in wanted

    return b"".join(chain.segment(ledger.id, before, ledger.links(first, head.seq), head, shown))


def _head(workspace: Workspace, last: int) -> SignedHead:
    found = _signed_after(workspace.ledger, last)
    if found is None:
        sign_head(workspace.ledger, workspace.settings.home, workspace.clock)
        found = _signed_after(workspace.ledger, last)
    if found is None:
        raise LedgerError("the head of the ledger cannot be signed", value=last, fix="bedplate audit verify says what is wrong with it")
    return found


def _signed_after(ledger: Ledger, last: int) -> SignedHead | None:
    return next((head for head in ledger.signed_heads() if head.seq >= last), None)


def _subjects(workspace: Workspace, facts: Facts) -> list[str]:
    runs = [run.id for run in facts.runs]
    launches = {run.launch for run in facts.runs}
    refs = [version.ref for version in facts.versions]
    erased = [event.subject for event in workspace.ledger.about([*runs, *refs]) if event.erased]
    return [facts.version.name, *runs, *sorted(launches), *refs, *erased]


def _card(facts: Facts) -> Mapping[str, Any]:
    """What the model card is rendered from."""
    run, evaluation = facts.run, facts.evaluation
    training = next((version for version in facts.versions if version.kind == "training_set"), None)
    code = (run.made.get("code") if run is not None else None) or {}
    data = [
        {"name": each.name, "version": each.number, "rows": each.meta.get("rows"), "role": each.kind}
        for each in facts.versions
        if each.kind in ("table", "training_set")
    ]
    return {
        "name": facts.version.name,
        "number": facts.version.number,
        "run": facts.version.run,
        "digest": facts.version.digest,
        "created_at": iso(facts.version.created_at_s),
        "data": data,
        "rows": training.meta.get("rows") if training is not None else None,
        "splits": training.meta.get("splits") if training is not None else None,
        "features": [name for each in facts.versions if each.kind == "view" for name in each.meta.get("features", ())],
        "params": dict(run.params) if run is not None else facts.version.meta.get("params"),
        "metrics": evaluation.get("metrics"),
        "production": evaluation.get("production"),
        "production_metrics": evaluation.get("production_metrics"),
        "pinned_set": evaluation.get("pinned_set"),
        "decision": evaluation.get("decision"),
        "code": {"commit": code.get("commit"), "dirty": code.get("dirty"), "digest": code.get("snapshot")},
        "environment": run.made.get("environment") if run is not None else None,
        "hardware": run.made.get("hardware") if run is not None else None,
        "seconds": run.duration_s if run is not None else None,
    }
