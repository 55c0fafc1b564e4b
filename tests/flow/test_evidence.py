"""Writing evidence: which part of the chain, which decisions and keys. What the files say: tests/models/evidence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bedplate.core.heads import key_id, signing_key
from bedplate.flow.deciding import public_pem, signed
from bedplate.flow.evidence import write_evidence
from bedplate.flow.workspace import Workspace
from bedplate.models import dsse
from bedplate.models.evidence.verifying import verify_folder
from flow.shop import make_shop, tell


@pytest.fixture
def shop(tmp_path: Path, own_home: Path) -> Iterator[Workspace]:
    with make_shop(tmp_path / "shop", own_home) as workspace:
        yield workspace


def wrong(folder: Path) -> list[str]:
    return [f"{finding.what}: {finding.why}" for finding in verify_folder(folder) if not finding.holds]


def chain(folder: Path) -> tuple[dict[str, object], list[list[object]]]:
    first, *lines = (folder / "chain.jsonl").read_bytes().splitlines()
    return json.loads(first), [json.loads(line) for line in lines]


def test_it_is_written_whole_and_holds(shop: Workspace) -> None:
    folder = write_evidence(shop, "price@production")
    assert folder == shop.project.root / "evidence-price-2"
    assert wrong(folder) == []
    assert not (folder / "model").exists()


def test_with_the_model_it_holds_too(shop: Workspace, tmp_path: Path) -> None:
    folder = write_evidence(shop, "price@2", tmp_path / "out", ["model"])
    assert wrong(folder) == []
    assert (folder / "model" / "sub" / "tokenizer.json").read_text() == "{}"


def test_the_segment_ends_at_the_first_head_after_what_concerns_the_version(shop: Workspace, tmp_path: Path) -> None:
    end = shop.ledger.head().seq
    for number in range(20):
        tell(shop, "step.accepted", f"other-{number}", {"fingerprint": "secret"})
    folder = write_evidence(shop, "price@2", tmp_path / "out")
    first, lines = chain(folder)
    assert (lines[0][0], lines[-1][0], first["head"]["seq"]) == (1, end, end)  # type: ignore[index]
    assert len(shop.ledger.signed_heads()) == 1, "there was a signed head already"


def test_a_head_is_signed_when_there_is_none_after_it(shop: Workspace, tmp_path: Path) -> None:
    tell(shop, "step.accepted", "unrelated", {"fingerprint": "secret of others"})
    tell(shop, "version.tagged", "price@2", {"tags": {"stage": "pilot"}, "by": "ann"})
    folder = write_evidence(shop, "price@2", tmp_path / "out")
    assert wrong(folder) == []
    first, lines = chain(folder)
    assert first["head"]["seq"] == shop.ledger.head().seq == lines[-1][0]  # type: ignore[index]
    shown = {line[4]: line[8] for line in lines}
    assert shown["unrelated"] is None, "what concerns others is a link without its payload"
    assert shown["price@2"] is not None
    assert b"secret of others" not in (folder / "chain.jsonl").read_bytes()


def test_signed_decisions_are_copied_with_the_keys_that_verify_them(shop: Workspace, own_home: Path, tmp_path: Path) -> None:
    version = shop.records.version("price@2")
    mine = signed(shop, version, "canary", {"by": "ann", "promoted": True, "why": "looked at it"})
    tell(shop, "alias.moved", "price", {"alias": "canary", "version": 2, "decision": mine})
    colleague = Ed25519PrivateKey.generate()
    trusted = own_home / "keys" / "trusted" / "c.pem"
    trusted.parent.mkdir(parents=True)
    trusted.write_bytes(public_pem(colleague.public_key()))
    theirs = {**mine, "envelope": dsse.sign(dsse.verify(mine["envelope"], signing_key(own_home).public_key()), colleague)}
    tell(shop, "alias.moved", "price", {"alias": "blue/green", "version": 2, "decision": theirs})
    folder = write_evidence(shop, "price@2", tmp_path / "out")
    assert sorted(path.name for path in (folder / "attestations").iterdir()) == [
        "decision-2-canary.dsse.json",
        "decision-3-blue_green.dsse.json",
        "folder.dsse.json",
        "provenance.dsse.json",
    ]
    assert (folder / "keys" / f"{key_id(colleague.public_key())}.pub.pem").is_file()
    assert wrong(folder) == []


def test_an_erased_payload_is_a_link_with_the_event_that_says_so(shop: Workspace, tmp_path: Path) -> None:
    [seq] = [event.seq for event in shop.ledger.read() if event.kind == "run.created" and event.subject == "make-1"]
    shop.records.release()
    shop.ledger.erase(seq, "it named somebody")
    shop.refresh()
    folder = write_evidence(shop, "price@2", tmp_path / "out")
    assert wrong(folder) == []
    _, lines = chain(folder)
    assert next(line for line in lines if line[0] == seq)[8] is None


def test_pages_are_about_this_version(shop: Workspace, tmp_path: Path) -> None:
    folder = write_evidence(shop, "price@2", tmp_path / "out")
    assert (folder / "card.md").read_text().startswith("# price@2")
    assert "rmse" in (folder / "card.md").read_text()
    assert "table rows@3" in (folder / "lineage.txt").read_text()
    assert "price@2" in (folder / "annex-iv.md").read_text()
    first = (folder / "openlineage.jsonl").read_text().splitlines()[0]
    assert json.loads(first)["job"]["name"] == "make"
    for name in (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()):
        assert name.split("/")[0] in (folder / "README.md").read_text(), name
