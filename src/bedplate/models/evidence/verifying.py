"""Verifying an evidence folder, with nothing but the folder: what holds and what does not, line by line.

What a folder proves is as good as the key: one that came with the folder shows only that the folder is as it was made.
Does not know: the ledger, or whose key it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from bedplate.core.errors import EvidenceError
from bedplate.core.heads import key_id
from bedplate.core.package import sha256_file
from bedplate.models.dsse import verify
from bedplate.models.evidence import chain
from bedplate.models.evidence.folder import STATEMENT_FILE, SUMS_FILE, UNLISTED, present, sums
from bedplate.models.evidence.signature import signed_files

PROJECT_KEY = "keys/project.pub.pem"
MODEL_KEY = "keys/model.pub.pem"


@dataclass(frozen=True)
class Finding:
    """One line: what was checked (a file, mostly), whether it holds, and what was found."""

    what: str
    holds: bool
    why: str


def verify_folder(folder: Path, key: Ed25519PublicKey | None = None) -> list[Finding]:
    """All findings, in the order in which one rests on the other. `key` is the key that must have signed; without it, the folder's own."""
    if not folder.is_dir():
        raise EvidenceError("no such folder", value=str(folder), fix="name a folder that `bedplate evidence` wrote")
    findings, signer = _key(folder, key)
    if signer is None:
        return findings
    about: Mapping[str, Any] = {}
    try:
        said = verify(_json(folder / STATEMENT_FILE), signer)
        about = said["predicate"]
        findings.append(Finding(STATEMENT_FILE, True, f"signed with {key_id(signer)}; it speaks of {len(said['subject'])} files"))
        findings += _files(folder, {each["name"]: each["digest"]["sha256"] for each in said["subject"]})
    except (EvidenceError, KeyError, TypeError) as error:
        findings.append(Finding(STATEMENT_FILE, False, _why(error)))
    findings += _sums(folder)
    findings += _attestations(folder, signer, about)
    findings += _chain(folder, signer, about)
    return [*findings, *_model(folder, about)]


def _key(folder: Path, wanted: Ed25519PublicKey | None) -> tuple[list[Finding], Ed25519PublicKey | None]:
    try:
        own = _public(folder / PROJECT_KEY)
    except EvidenceError as error:
        return [Finding(PROJECT_KEY, False, _why(error))], wanted
    signed = _signed_by(folder)
    if signed != key_id(own):
        return [Finding(PROJECT_KEY, False, f"the folder has the key {key_id(own)}, but is signed with {signed}")], wanted or own
    if wanted is None:
        return [
            Finding(PROJECT_KEY, True, f"{key_id(own)}; compare it with the one that the project publishes, or give it with --key")
        ], own
    if key_id(own) != key_id(wanted):
        return [Finding(PROJECT_KEY, False, f"the folder has the key {key_id(own)}, not {key_id(wanted)}")], wanted
    return [Finding(PROJECT_KEY, True, f"{key_id(own)}, as was asked for")], wanted


def _signed_by(folder: Path) -> str:
    """The id of the key that the folder's statement says it is signed with."""
    try:
        return str(_json(folder / STATEMENT_FILE)["signatures"][0]["keyid"])
    except (EvidenceError, KeyError, TypeError, IndexError):
        return "no key"


def _public(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise EvidenceError("it is missing or cannot be read") from error
    except ValueError as error:
        raise EvidenceError("it is no public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise EvidenceError("it is no Ed25519 key")
    return key


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise EvidenceError("it is missing or cannot be read") from error
    except ValueError as error:
        raise EvidenceError("it is no JSON") from error


def _why(error: Exception) -> str:
    return error.what if isinstance(error, EvidenceError) else f"not in the format: {type(error).__name__} {error}"


def _files(folder: Path, digests: Mapping[str, str]) -> Iterator[Finding]:
    there = set(present(folder))
    for name in sorted(digests):
        path = folder / name
        if name not in there:
            yield Finding(name, False, "missing")
        elif path.is_symlink() or not path.is_file():
            yield Finding(name, False, "not a plain file")
        elif sha256_file(path) != digests[name]:
            yield Finding(name, False, "changed: its SHA-256 is not the signed one")
        else:
            yield Finding(name, True, f"sha256 {digests[name][:12]}")
    for name in sorted(there - set(digests) - UNLISTED):
        yield Finding(name, False, "added: the signed statement does not know it")


def _sums(folder: Path) -> Iterator[Finding]:
    try:
        said = (folder / SUMS_FILE).read_bytes()
        holds = said == sums(folder).encode()
        yield Finding(SUMS_FILE, holds, "agrees with every file" if holds else "does not agree with the files")
    except OSError as error:
        yield Finding(SUMS_FILE, False, f"cannot be compared: {error.strerror}, {Path(error.filename or '').name}")


def _attestations(folder: Path, signer: Ed25519PublicKey, about: Mapping[str, Any]) -> Iterator[Finding]:
    keys = {key_id(signer): signer}
    for path in sorted((folder / "keys").glob("*.pub.pem")):
        try:
            other = _public(path)
            keys[key_id(other)] = other
        except EvidenceError:  # the model's key is of another kind, and damage is told by the file's digest
            continue
    for path in sorted((folder / "attestations").glob("*.json")):
        name = path.relative_to(folder).as_posix()
        if name == STATEMENT_FILE:
            continue
        try:
            yield _attestation(name, _json(path), keys, signer, about)
        except (EvidenceError, KeyError, TypeError, AttributeError) as error:
            yield Finding(name, False, _why(error))


def _attestation(
    name: str, envelope: Mapping[str, Any], keys: Mapping[str, Ed25519PublicKey], signer: Ed25519PublicKey, about: Mapping[str, Any]
) -> Finding:
    by = str(envelope["signatures"][0].get("keyid", ""))
    said = verify(envelope, keys.get(by, signer))
    subjects = {each["name"]: each["digest"]["sha256"] for each in said["subject"]}
    if about and subjects.get(about["version"]) != about["digest"]:
        return Finding(name, False, f"it does not speak of {about['version']} with the digest {about['digest'][:12]}")
    return Finding(name, True, f"{said['predicateType']}, signed with {by}")


def _chain(folder: Path, signer: Ed25519PublicKey, about: Mapping[str, Any]) -> Iterator[Finding]:
    name = "chain.jsonl"
    try:
        with (folder / name).open("rb") as lines:
            held, why = chain.check(lines, signer)
    except OSError:
        held, why = None, "it is missing or cannot be read"
    if held is None:
        yield Finding(name, False, why)
    elif about and held.ledger != about.get("ledger"):
        yield Finding(name, False, f"it is of another ledger, {held.ledger}")
    else:
        yield Finding(name, True, f"events {held.first} to {held.last} are linked up to a signed head, {held.payloads} with their payload")


def _model(folder: Path, about: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        manifest = folder / "manifest.json"
        digest = sha256_file(manifest) if manifest.is_file() else "missing"
        holds = not about or digest == about.get("digest")
        yield Finding("manifest.json", holds, "is the version's digest" if holds else f"is not the digest of {about.get('version')}")
        files = signed_files(_json(folder / "model.sig"), (folder / MODEL_KEY).read_bytes())
        wanted = {each: facts["sha256"] for each, facts in _json(manifest)["files"].items()} | {"manifest.json": digest}
        fits = files == wanted
        yield Finding(
            "model.sig", fits, f"signs {len(files)} files of the manifest" if fits else "signs other files than the manifest names"
        )
    except OSError:
        yield Finding("model.sig", False, "it or its key is missing")
        return
    except (EvidenceError, KeyError, TypeError, AttributeError) as error:
        yield Finding("model.sig", False, _why(error))
        return
    model = folder / "model"
    if not model.exists():
        yield Finding("model/", True, "not here: the model's files can be compared with manifest.json and model.sig where they are")
        return
    bad = [each for each in files if not (model / each).is_file() or sha256_file(model / each) != files[each]]
    bad += [each for each in present(model) if each not in files]
    yield Finding("model/", not bad, f"not as signed: {', '.join(sorted(bad))}" if bad else f"{len(files)} files as signed")
