"""Verifying a folder: everything holds as it was written, and whatever was done to it is found by the name of the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bedplate.core.errors import EvidenceError
from bedplate.core.heads import signing_key
from bedplate.core.ledger import Ledger
from bedplate.core.package import sha256_file
from bedplate.flow.deciding import public_pem
from bedplate.models import dsse
from bedplate.models.evidence import chain
from bedplate.models.evidence.facts import Facts
from bedplate.models.evidence.folder import STATEMENT_FILE, SUMS_FILE, encoded, sums, write
from bedplate.models.evidence.provenance import provenance
from bedplate.models.evidence.signature import model_key, sign_model
from bedplate.models.evidence.signature import public_pem as model_pem
from bedplate.models.evidence.verifying import MODEL_KEY, PROJECT_KEY, verify_folder
from models.evidence.sample import envelope


@pytest.fixture
def folder(tmp_path: Path, facts: Facts, ledger: Ledger, model: Path, own_home: Path) -> Path:
    """A folder with all that is verified, and the model's files."""
    key = signing_key(own_home)
    digests = {name: entry["sha256"] for name, entry in json.loads(facts.manifest)["files"].items()} | {
        "manifest.json": facts.version.digest
    }
    [head] = ledger.signed_heads()
    lines = chain.segment(ledger.id, ledger.beginning().digest, ledger.links(1, head.seq), head, lambda _: True)
    files = {
        PROJECT_KEY: public_pem(key.public_key()),
        MODEL_KEY: model_pem(model_key(own_home)),
        "attestations/provenance.dsse.json": encoded(dsse.sign(provenance(facts), key)),
        "attestations/decision-1.dsse.json": encoded(envelope(facts, key)),
        "card.md": b"# card",
        "chain.jsonl": b"".join(lines),
        "manifest.json": facts.manifest,
        "model.sig": encoded(sign_model("price@2", digests, model_key(own_home))),
    }
    about = {"version": facts.version.ref, "digest": facts.version.digest, "ledger": ledger.id}
    out = tmp_path / "evidence"
    write(out, files, {f"model/{name}": model / name for name in digests}, about, key)
    return out


def wrong(folder: Path, **options: object) -> set[str]:
    return {finding.what for finding in verify_folder(folder, **options) if not finding.holds}  # type: ignore[arg-type]


def test_everything_holds_as_it_was_written(folder: Path) -> None:
    findings = verify_folder(folder)
    assert [finding for finding in findings if not finding.holds] == []
    named = {finding.what for finding in findings}
    assert {PROJECT_KEY, STATEMENT_FILE, SUMS_FILE, "card.md", "chain.jsonl", "model.sig", "model/", "manifest.json"} <= named


def test_it_does_not_need_the_ledger_or_the_place(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "e"
    shutil.copytree(folder, elsewhere)
    shutil.rmtree(tmp_path / "state")
    assert wrong(elsewhere) == set()


def test_the_models_files_may_be_elsewhere(folder: Path, own_home: Path, facts: Facts) -> None:
    shutil.rmtree(folder / "model")
    found = wrong(folder)
    assert found == {
        SUMS_FILE,
        *(f"model/{name}" for name in ("model.safetensors", "signature.json", "sub/tokenizer.json", "manifest.json")),
    }
    assert "model/" not in found, "files that were in the folder are missing, yet nothing contradicts the signature"


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])


def replaced(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        assert old in data
        (folder / name).write_bytes(data.replace(old, new))

    return change


DONE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte": (lambda folder: flip(folder / "card.md"), "card.md"),
    "a byte of the model": (lambda folder: flip(folder / "model" / "model.safetensors"), "model/model.safetensors"),
    "a file taken away": (lambda folder: (folder / "card.md").unlink(), "card.md"),
    "a file added": (lambda folder: (folder / "extra.md").write_text("x"), "extra.md"),
    "a file in the model": (lambda folder: (folder / "model" / "x.py").write_text("x"), "model/"),
    "a link": (lambda folder: ((folder / "card.md").unlink(), (folder / "card.md").symlink_to("manifest.json")), "card.md"),
    "a folder for a file": (lambda folder: ((folder / "card.md").unlink(), (folder / "card.md").mkdir()), "card.md"),
    "the sums": (replaced(SUMS_FILE, b"card.md", b"cart.md"), SUMS_FILE),
    "no sums": (lambda folder: (folder / SUMS_FILE).unlink(), SUMS_FILE),
    "the statement": (replaced(STATEMENT_FILE, b'"payload": "', b'"payload": "e'), STATEMENT_FILE),
    "no statement": (lambda folder: (folder / STATEMENT_FILE).unlink(), STATEMENT_FILE),
    "an attestation": (lambda folder: flip(folder / "attestations" / "provenance.dsse.json"), "attestations/provenance.dsse.json"),
    "an empty attestation": (lambda folder: (folder / "attestations" / "x.json").write_text("{}"), "attestations/x.json"),
    "the chain": (replaced("chain.jsonl", b"up-1", b"up-2"), "chain.jsonl"),
    "no chain": (lambda folder: (folder / "chain.jsonl").unlink(), "chain.jsonl"),
    "the manifest": (replaced("manifest.json", b'"lr": 0.1', b'"lr": 0.2'), "manifest.json"),
    "the model's signature": (replaced("model.sig", b'"sig": "', b'"sig": "A'), "model.sig"),
    "no key of the model": (lambda folder: (folder / MODEL_KEY).unlink(), "model.sig"),
    "no key": (lambda folder: (folder / PROJECT_KEY).unlink(), PROJECT_KEY),
    "nonsense for a key": (lambda folder: (folder / PROJECT_KEY).write_text("x"), PROJECT_KEY),
    "another key": (lambda folder: (folder / PROJECT_KEY).write_bytes(public_pem(Ed25519PrivateKey.generate().public_key())), PROJECT_KEY),
}


@pytest.mark.parametrize("what", DONE)
def test_whatever_was_done_is_found_by_its_name(folder: Path, what: str) -> None:
    do, named = DONE[what]
    do(folder)
    assert named in wrong(folder)


def test_sums_that_were_made_to_fit_do_not_help(folder: Path) -> None:
    flip(folder / "card.md")
    (folder / SUMS_FILE).write_text(sums(folder))
    assert wrong(folder) == {"card.md"}


def test_a_forger_with_a_key_of_their_own_is_found_by_the_published_one(folder: Path, facts: Facts, own_home: Path) -> None:
    published, forger = signing_key(own_home).public_key(), Ed25519PrivateKey.generate()
    (folder / "card.md").write_bytes(b"# lies")
    (folder / PROJECT_KEY).write_bytes(public_pem(forger.public_key()))
    said = dsse.verify(json.loads((folder / STATEMENT_FILE).read_bytes()), published)
    digests = {each["name"]: sha256_file(folder / each["name"]) for each in said["subject"]}
    (folder / STATEMENT_FILE).write_bytes(encoded(dsse.sign(dsse.statement(digests, said["predicateType"], said["predicate"]), forger)))
    (folder / SUMS_FILE).write_text(sums(folder))
    assert {PROJECT_KEY, STATEMENT_FILE} <= wrong(folder, key=published)
    assert "card.md" not in wrong(folder), "without the published key the files agree with what the forger signed"
    assert "chain.jsonl" in wrong(folder), "though not even then does the chain's head"


def test_the_published_key_is_said_to_fit(folder: Path, own_home: Path) -> None:
    assert wrong(folder, key=signing_key(own_home).public_key()) == set()


def test_a_statement_about_another_version_is_found(folder: Path, facts: Facts, own_home: Path) -> None:
    other = dsse.statement({"price@2": "0" * 64}, "https://slsa.dev/provenance/v1", {})
    (folder / "attestations" / "provenance.dsse.json").write_bytes(encoded(dsse.sign(other, signing_key(own_home))))
    findings = {finding.what: finding.why for finding in verify_folder(folder) if not finding.holds}
    assert (
        "changed" in findings["attestations/provenance.dsse.json"]
        or "does not speak of price@2" in findings["attestations/provenance.dsse.json"]
    )


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="no such folder"):
        verify_folder(tmp_path / "nowhere")
