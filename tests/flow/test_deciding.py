"""Decisions: signed when they are made, checked when they are served, and every way in which one may be no good."""

from __future__ import annotations

import base64
import json
import sqlite3
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bedplate.core.errors import BedplateError, EvidenceError, NotFound
from bedplate.core.heads import key_id, signing_key
from bedplate.core.projection import place_of
from bedplate.flow.deciding import check, checked, public_keys, public_pem, signed, trust
from bedplate.flow.moving import promote
from bedplate.flow.workspace import open_workspace
from bedplate.models.decision import PREDICATE_TYPE
from bedplate.models.dsse import sign, verify
from flow.world import SHOP, World

OVERRIDE = {"by": "ann", "promoted": True, "override": True, "why": "it is good"}


def version(world: World, ref: str = "price@production"):
    return world.workspace.records.version(ref)


def public(world: World):
    return signing_key(world.workspace.settings.home).public_key()


def unsign(world: World, **changes) -> None:
    """Write the alias's event anew in the ledger, as somebody who has the file may, with `changes` in its decision."""
    ledger = world.workspace.project.state / "ledger.db"
    [event] = world.events("alias.moved")
    decision = {**event.payload["decision"], **changes}
    payload = json.dumps({**event.payload, "decision": {name: value for name, value in decision.items() if value is not None}})
    with sqlite3.connect(ledger) as database:
        database.execute("UPDATE events SET payload = ? WHERE seq = ?", (payload.encode(), event.seq))
    world.workspace.close()
    place_of(ledger).unlink(missing_ok=True)
    world.workspace = open_workspace(world.folder, clock=world.clock)


def test_the_gates_move_is_a_statement_signed_with_the_projects_key(world: World) -> None:
    world.drive("up")
    [move], [evaluated] = world.events("alias.moved"), world.events("evaluation.recorded")
    said = verify(move.payload["decision"]["envelope"], public(world))
    assert said["subject"] == [{"name": "price@1", "digest": {"sha256": version(world).digest}}]
    assert said["predicateType"] == PREDICATE_TYPE
    told = said["predicate"]
    assert (told["alias"], told["verdict"], told["decidedBy"], told["override"]) == ("production", "promoted", "gate", False)
    assert told["metrics"] == {"rmse": 1.0}
    assert told["evaluationSet"]["name"] == "fit.inputs@1"
    assert told["evaluationSet"]["digest"] == version(world, "fit.inputs@1").digest
    assert told["code"]["training"]["snapshot"] == world.run("fit-1").made["code"]["snapshot"]
    assert told["production"] is None
    assert told["ledger"]["id"] == world.workspace.ledger.id
    assert evaluated.payload["decision"]["envelope"] == move.payload["decision"]["envelope"]


def test_a_refusal_is_signed_too_and_names_production(world: World) -> None:
    world.drive("up")
    world.contents["fit"], world.rmse = "2", 9.0
    world.declare(SHOP.replace("lr: 0.1", "lr: 0.2"))
    world.drive("up")
    assert len(world.events("alias.moved")) == 1
    said = verify(world.events("evaluation.recorded")[-1].payload["decision"]["envelope"], public(world))["predicate"]
    assert (said["verdict"], said["why"]) == ("refused", "not promoted: rmse <= 5")
    assert said["production"] == {"name": "price@1", "digest": version(world, "price@1").digest}


def test_a_good_decision_checks_and_a_version_that_nobody_decided_on_does_not(world: World) -> None:
    world.drive("up")
    found = check(world.workspace, version(world))
    assert (found.holds, found.why, found.key_id) == (True, "", key_id(public(world)))
    assert found.statement is not None and found.statement["predicate"]["verdict"] == "promoted"
    never = check(world.workspace, replace(version(world), number=7))
    assert (never.holds, never.why) == (False, "nobody decided that price@7 is in production")
    assert not check(world.workspace, version(world), "staging").holds


def test_a_decision_speaks_for_one_version_its_bytes_one_alias_and_only_when_it_promotes(world: World) -> None:
    world.drive("up")
    good, home = version(world), world.workspace.settings.home
    envelope = signed(world.workspace, good, "production", OVERRIDE)["envelope"]
    assert checked(home, envelope, good, "production").holds
    assert checked(home, envelope, replace(good, number=2), "production").why == "its statement speaks of price@1"
    assert "decided on other bytes" in checked(home, envelope, replace(good, digest="0" * 64), "production").why
    assert checked(home, envelope, good, "staging").why == "it was decided for the alias 'production'"
    refusal = signed(world.workspace, good, "production", {**OVERRIDE, "promoted": False})["envelope"]
    assert checked(home, refusal, good, "production").why == "the verdict was 'refused'"
    other = sign({**verify(envelope, public(world)), "predicateType": "x"}, signing_key(home))
    assert "is no decision but 'x'" in checked(home, other, good, "production").why


def test_an_event_that_was_tampered_with_is_not_served(world: World) -> None:
    world.drive("up", "price")
    envelope = world.events("alias.moved")[0].payload["decision"]["envelope"]
    said = json.loads(base64.b64decode(envelope["payload"]))
    said["predicate"]["metrics"]["rmse"] = 0.0
    unsign(world, envelope={**envelope, "payload": base64.b64encode(json.dumps(said).encode()).decode()})
    launch = world.drive("up")
    assert launch.status == "failed"
    assert "prices does not serve price@1: its decision does not verify: the signature of an envelope does not fit" in launch.message
    assert "bedplate promote price@1 --reason" in launch.message
    assert world.workspace.records.of_step("prices") == []


def test_a_decision_that_is_not_signed_is_served_only_where_that_is_declared_and_recorded(world: World) -> None:
    world.drive("up", "price")
    unsign(world, envelope=None)
    assert "prices does not serve price@1: its decision is not signed" in world.drive("up").message
    world.declare(SHOP.replace("{model: price@production}", "{model: price@production, unsigned: allowed}"))
    assert world.drive("up").status == "done"
    [waived] = world.events("decision.waived")
    assert waived.subject == "price@1"
    assert waived.payload["endpoint"] == "prices" and waived.payload["why"] == "its decision is not signed"


def test_a_good_decision_waives_nothing(world: World) -> None:
    assert world.drive("up").status == "done"
    assert world.events("decision.waived") == []


def test_a_decision_of_another_key_counts_once_that_key_is_trusted(world: World, tmp_path) -> None:
    world.drive("up")
    good, home = version(world), world.workspace.settings.home
    theirs = Ed25519PrivateKey.generate()
    envelope = sign(verify(signed(world.workspace, good, "production", OVERRIDE)["envelope"], public(world)), theirs)
    assert "signed by an unknown key" in checked(home, envelope, good, "production").why
    (tmp_path / "theirs.pem").write_bytes(public_pem(theirs.public_key()))
    with pytest.raises(BedplateError, match="trusting a key needs a reason"):
        trust(world.workspace, tmp_path / "theirs.pem", " ")
    known = trust(world.workspace, tmp_path / "theirs.pem", "the runner of our pipeline")
    assert known == key_id(theirs.public_key()) and set(public_keys(home)) == {known, key_id(public(world))}
    assert checked(home, envelope, good, "production").key_id == known
    assert world.events("key.trusted")[0].payload["reason"] == "the runner of our pipeline"


def test_what_is_no_public_key_is_not_trusted(world: World, tmp_path) -> None:
    with pytest.raises(NotFound, match="bedplate audit key"):
        trust(world.workspace, tmp_path / "nothing.pem", "x")
    (tmp_path / "text.pem").write_text("hello")
    with pytest.raises(EvidenceError, match="a file is no public key"):
        trust(world.workspace, tmp_path / "text.pem", "x")
    assert world.events("key.trusted") == []


def test_a_decision_by_hand_is_signed_with_its_reason(world: World) -> None:
    world.drive("up")
    made = signed(world.workspace, version(world), "production", OVERRIDE)
    said = verify(made["envelope"], public(world))["predicate"]
    assert (said["decidedBy"], said["override"], said["why"], said["rules"]["when"]) == ("ann", True, "it is good", [])
    assert said["production"]["name"] == "price@1"
    assert {name: made[name] for name in OVERRIDE} == OVERRIDE


def test_a_promotion_by_hand_heals_what_is_not_served(world: World) -> None:
    world.drive("up", "price")
    unsign(world, envelope=None)
    assert world.drive("up").status == "failed"
    promote(world.workspace, "price@1", "compared with the report of March")
    assert check(world.workspace, version(world)).statement["predicate"]["why"] == "compared with the report of March"
    assert world.drive("up").status == "done"
    assert world.run("prices").status == "ready" and world.events("decision.waived") == []


def test_a_key_that_is_not_ours_any_more_does_not_count(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    world.drive("up", "price")
    monkeypatch.setenv("BEDPLATE_HOME", str(tmp_path / "another"))
    world.declare(SHOP)
    found = check(world.workspace, version(world))
    assert not found.holds and "signed by an unknown key" in found.why
    assert "signed by an unknown key" in world.drive("up").message


@pytest.mark.parametrize("envelope", [{}, {"signatures": "x"}, {"signatures": [3]}, {"signatures": [{"keyid": None}]}])
def test_what_is_no_envelope_is_no_decision(world: World, envelope: dict) -> None:
    world.drive("up", "price")
    found = checked(world.workspace.settings.home, envelope, version(world), "production")
    assert not found.holds and found.why


def test_a_truncated_or_foreign_statement_under_a_known_key_is_no_decision(world: World) -> None:
    world.drive("up", "price")
    home, good = world.workspace.settings.home, version(world)
    envelope = signed(world.workspace, good, "production", OVERRIDE)["envelope"]
    assert not checked(home, {**envelope, "payload": envelope["payload"][:40]}, good, "production").holds
    assert not checked(home, {**envelope, "signatures": []}, good, "production").holds
    text = sign({"_type": "https://in-toto.io/Statement/v1"}, signing_key(home))
    assert "is no decision" in checked(home, text, good, "production").why
