"""Decisions, signed and checked: every move of an alias carries a statement signed with the project key, and serving asks for it.

The keys that count are this user's own (`core.heads`) and those that were put into `HOME/keys/trusted`.
Does not know: how the gate judges, or what a statement says (`models.decision`).
"""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from bedplate.core.atomic import write_bytes
from bedplate.core.errors import BedplateError, EvidenceError, NotFound
from bedplate.core.event import Draft
from bedplate.core.heads import key_id, signing_key
from bedplate.core.versions import Version
from bedplate.flow.workspace import Workspace
from bedplate.models.decision import decided, objection
from bedplate.models.dsse import sign, verify


@dataclass(frozen=True)
class Checked:
    """Whether a version's decision holds; else `why` not, in a few words. `statement` is what was signed, with the key `key_id`."""

    holds: bool
    why: str = ""
    statement: Mapping[str, Any] | None = None
    key_id: str = ""


def signed(
    workspace: Workspace, version: Version, alias: str, decision: Mapping[str, Any], evaluation: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`decision` (`by`, `promoted`, `why`…, as JSON) with the `envelope` of its signed statement, for the events that record it.

    `evaluation` is the gate's, when there was one.
    """
    known = evaluation or {}
    at_s = workspace.clock.now()
    said = decided(version, alias, decision, at_s, known, _context(workspace, version, alias, decision, known))
    return {**decision, "envelope": sign(said, signing_key(workspace.settings.home))}


def check(workspace: Workspace, version: Version, alias: str = "production") -> Checked:
    """Whether the newest move of `alias` to `version` carries a decision that a known key signed for these very bytes."""
    moves = workspace.records.moves(version.name).get(alias, ())
    move = next((move for move in reversed(moves) if move.version == version.number), None)
    if move is None:
        return Checked(False, f"nobody decided that {version.ref} is in {alias}")
    envelope = move.decision.get("envelope")
    if envelope is None:
        return Checked(False, "its decision is not signed")
    return checked(workspace.settings.home, envelope, version, alias)


def checked(home: Path, envelope: Mapping[str, Any], version: Version, alias: str) -> Checked:
    """As `check`, for an envelope at hand."""
    keys = public_keys(home)
    signers = [signature.get("keyid") for signature in envelope.get("signatures", ()) if isinstance(signature, Mapping)]
    key = next((keys[signer] for signer in signers if signer in keys), None)
    if key is None:
        return Checked(False, f"its decision was signed by an unknown key ({', '.join(map(str, signers)) or 'none'})")
    try:
        said = verify(envelope, key)
    except EvidenceError as error:
        return Checked(False, f"its decision does not verify: {error.what}")
    why = objection(said, version, alias)
    return Checked(not why, why, said, key_id(key))


def admitted(workspace: Workspace, endpoint: str, version: Version, alias: str) -> list[Draft]:
    """What is recorded when `endpoint` begins to serve `version`: nothing for a decision that holds.

    Raises EvidenceError for one that is missing or does not verify, unless the endpoint is declared with `unsigned: allowed`: that is an
    event of its own.
    """
    found = check(workspace, version, alias)
    if found.holds:
        return []
    if workspace.project.spec.endpoints[endpoint].unsigned == "refused":
        fix = f'bedplate promote {version.ref} --reason "..." after looking at it, or `unsigned: allowed` in endpoints.{endpoint}'
        raise EvidenceError(f"{endpoint} does not serve {version.ref}: {found.why}", value=alias, fix=fix)
    payload = {"endpoint": endpoint, "alias": alias, "why": found.why, "by": getpass.getuser(), "allowed": "unsigned: allowed"}
    return [Draft("decision.waived", version.ref, payload)]


def public_keys(home: Path) -> dict[str, Ed25519PublicKey]:
    """The public keys whose decisions count, by id: this user's own and the trusted ones. Raises EvidenceError for a file that is none."""
    own = signing_key(home).public_key()
    trusted = [read_public_key(path) for path in sorted((home / "keys" / "trusted").glob("*.pem"))]
    return {key_id(key): key for key in (own, *trusted)}


def read_public_key(path: Path) -> Ed25519PublicKey:
    """An Ed25519 public key in PEM. Raises NotFound without the file and EvidenceError when it is something else."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except FileNotFoundError as error:
        raise NotFound("no such file", value=str(path), fix="name the file that `bedplate audit key` wrote") from error
    except ValueError as error:
        raise EvidenceError("a file is no public key", value=str(path), fix="name one that `bedplate audit key` wrote") from error
    if not isinstance(key, Ed25519PublicKey):
        raise EvidenceError("a public key is not Ed25519", value=str(path), fix="name one that `bedplate audit key` wrote")
    return key


def public_pem(key: Ed25519PublicKey) -> bytes:
    """A public key in PEM (SubjectPublicKeyInfo), as OpenSSL and others read it."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def trust(workspace: Workspace, path: Path, reason: str) -> str:
    """Let decisions count that were signed with another's key; recorded, with the reason. Returns the key's id."""
    if not reason.strip():
        raise BedplateError("trusting a key needs a reason", value=reason, fix='add --reason "whose it is"')
    key = read_public_key(path)
    payload = {"by": getpass.getuser(), "reason": reason, "pem": public_pem(key).decode()}
    workspace.ledger.append([Draft("key.trusted", key_id(key), payload)])
    folder = workspace.settings.home / "keys" / "trusted"
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / f"{key_id(key)}.pem", public_pem(key))
    return key_id(key)


def _context(
    workspace: Workspace, version: Version, alias: str, decision: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> dict[str, Any]:
    """What a decision rests on beside its numbers. For one by hand, production is what the alias points to now."""
    head = workspace.ledger.head()
    present = workspace.records.alias(version.name, alias)
    before = evaluation["production"] if evaluation else f"{version.name}@{present}" if present else None
    return {
        "production": _named(workspace, before),
        "evaluationSet": _named(workspace, evaluation.get("pinned_set")),
        "code": {"training": _code(workspace, version.run), "evaluation": _code(workspace, str(decision.get("run", "")))},
        "ledger": {"id": workspace.ledger.id, "event": head.seq, "digest": head.digest},
    }


def _named(workspace: Workspace, ref: str | None) -> dict[str, str] | None:
    return None if ref is None else {"name": ref, "digest": workspace.records.version(ref).digest}


def _code(workspace: Workspace, run: str) -> Mapping[str, Any] | None:
    """The snapshot, commit and uncommitted changes of a run's code; None for a version that no run made."""
    record = workspace.records.runs.get(run)
    code = record.made.get("code") if record is not None else None
    return {name: code.get(name) for name in ("snapshot", "commit", "dirty")} if code else None
