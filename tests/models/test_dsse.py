"""Envelopes: by the specification's own example, by a standard implementation, and under every change of a byte."""

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import EvidenceError
from bedplate.core.heads import key_id
from bedplate.models.dsse import PAYLOAD_TYPE, STATEMENT_TYPE, pae, sign, statement, verify

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
DIGEST = hashlib.sha256(b"weights").hexdigest()
SAID = statement({"delay@7": DIGEST}, "https://bedplate.dev/attestations/decision/v1", {"promoted": True, "why": "größer"})


def test_the_encoding_is_the_specifications_example():
    assert pae("http://example.com/HelloWorld", b"hello world") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_lengths_count_bytes_and_nothing_can_be_moved_from_one_part_to_the_next():
    assert pae("ü", "ß".encode()) == b"DSSEv1 2 \xc3\xbc 2 \xc3\x9f"
    assert pae("a 1 b", b"c") != pae("a", b"b 1 c")
    assert pae("", b"") == b"DSSEv1 0  0 "


def test_a_statement_has_the_shape_of_in_toto_v1():
    assert SAID["_type"] == "https://in-toto.io/Statement/v1" == STATEMENT_TYPE
    assert SAID["subject"] == [{"name": "delay@7", "digest": {"sha256": DIGEST}}]
    assert SAID["predicateType"] == "https://bedplate.dev/attestations/decision/v1"
    assert SAID["predicate"] == {"promoted": True, "why": "größer"}


@pytest.mark.parametrize("digest", ["", "abc", DIGEST.upper(), DIGEST + "0", "g" * 64])
def test_a_subject_needs_a_sha256(digest):
    with pytest.raises(EvidenceError, match="'delay@7' has no SHA-256"):
        statement({"delay@7": digest}, "x", {})


def test_what_was_signed_comes_back_and_says_who_signed():
    envelope = sign(SAID, KEY)
    assert verify(envelope, KEY.public_key()) == SAID
    assert envelope["payloadType"] == PAYLOAD_TYPE
    assert [signature["keyid"] for signature in envelope["signatures"]] == [key_id(KEY.public_key())]
    assert sign(SAID, KEY) == envelope  # Ed25519 is deterministic, and so is the payload
    assert json.loads(json.dumps(envelope)) == envelope


def test_the_signature_is_plain_ed25519_over_the_encoding():
    envelope = sign(SAID, KEY)
    message = pae(envelope["payloadType"], base64.b64decode(envelope["payload"]))
    KEY.public_key().verify(base64.b64decode(envelope["signatures"][0]["sig"]), message)  # raises when it does not fit


def test_another_key_is_named_and_refused():
    with pytest.raises(EvidenceError, match=f"another key than {key_id(OTHER.public_key())}.*{key_id(KEY.public_key())}"):
        verify(sign(SAID, KEY), OTHER.public_key())


def test_another_key_under_the_right_name_is_refused():
    envelope = sign(SAID, OTHER)
    envelope["signatures"][0]["keyid"] = key_id(KEY.public_key())
    with pytest.raises(EvidenceError, match="does not fit"):
        verify(envelope, KEY.public_key())


def test_one_good_signature_of_several_is_enough_and_url_safe_base64_is_read():
    envelope = sign(SAID, KEY)
    envelope["signatures"] = [*sign(SAID, OTHER)["signatures"], *envelope["signatures"]]
    envelope["payload"] = base64.urlsafe_b64encode(base64.b64decode(envelope["payload"])).decode()
    assert verify(envelope, KEY.public_key()) == SAID


def test_no_signature_verifies_nothing():
    with pytest.raises(EvidenceError, match="nobody"):
        verify({**sign(SAID, KEY), "signatures": []}, KEY.public_key())


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"payloadType": PAYLOAD_TYPE, "payload": "e30="},
        {"payloadType": PAYLOAD_TYPE, "payload": "%%%", "signatures": []},
        {"payloadType": PAYLOAD_TYPE, "payload": "e30=", "signatures": ["x"]},
        {"payloadType": PAYLOAD_TYPE, "payload": 5, "signatures": []},
        {"payloadType": PAYLOAD_TYPE, "payload": "e30=", "signatures": None},
    ],
)
def test_what_is_no_envelope_is_one_clear_error(broken):
    with pytest.raises(EvidenceError, match="not in the DSSE format"):
        verify(broken, KEY.public_key())


def _signed_bytes(payload, payload_type=PAYLOAD_TYPE):
    signature = base64.b64encode(KEY.sign(pae(payload_type, payload))).decode()
    signed = [{"keyid": key_id(KEY.public_key()), "sig": signature}]
    return {"payloadType": payload_type, "payload": base64.b64encode(payload).decode(), "signatures": signed}


@pytest.mark.parametrize(
    ("envelope", "said"),
    [
        (_signed_bytes(b"{}", "text/plain"), "holds no in-toto statement"),
        (_signed_bytes(b"{"), "is no JSON"),
        (_signed_bytes(b'{"_type": "else"}'), "no in-toto statement v1"),
        (_signed_bytes(b"[1]"), "no in-toto statement v1"),
    ],
)
def test_a_signed_thing_that_is_no_statement_is_refused(envelope, said):
    with pytest.raises(EvidenceError, match=said):
        verify(envelope, KEY.public_key())


@settings(deadline=None)
@given(st.data())
def test_every_changed_byte_of_payload_type_or_signature_is_found(data):
    envelope = sign(SAID, KEY)
    parts = {
        "payload": base64.b64decode(envelope["payload"]),
        "type": envelope["payloadType"].encode(),
        "sig": base64.b64decode(envelope["signatures"][0]["sig"]),
    }
    name = data.draw(st.sampled_from(sorted(parts)))
    place = data.draw(st.integers(0, len(parts[name]) - 1))
    flipped = bytearray(parts[name])
    flipped[place] ^= data.draw(st.integers(1, 127 if name == "type" else 255))
    if name == "type":
        changed = {**envelope, "payloadType": bytes(flipped).decode()}
    elif name == "payload":
        changed = {**envelope, "payload": base64.b64encode(bytes(flipped)).decode()}
    else:
        changed = {**envelope, "signatures": [{**envelope["signatures"][0], "sig": base64.b64encode(bytes(flipped)).decode()}]}
    with pytest.raises(EvidenceError):
        verify(changed, KEY.public_key())


def test_subjects_keep_their_order_and_the_predicate_is_a_copy():
    predicate = {"a": 1}
    said = statement({"b@1": "1" * 64, "a@2": "2" * 64}, "t", predicate)
    predicate["a"] = 2
    assert [each["name"] for each in said["subject"]] == ["b@1", "a@2"]
    assert said["predicate"] == {"a": 1}
    assert statement({}, "t", {})["subject"] == []


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8), max_size=4))
def test_any_predicate_comes_back_and_its_order_changes_nothing(predicate):
    said = statement({"m@1": DIGEST}, "t", predicate)
    turned = statement({"m@1": DIGEST}, "t", dict(reversed(predicate.items())))
    assert verify(sign(said, KEY), KEY.public_key()) == said
    assert sign(turned, KEY) == sign(said, KEY)


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=6), st.binary(max_size=12), st.text(max_size=6), st.binary(max_size=12))
def test_no_two_messages_are_encoded_alike(first, one, second, two):
    assert (pae(first, one) == pae(second, two)) is ((first, one) == (second, two))


def test_a_signature_without_a_name_is_tried_and_one_of_another_name_is_not():
    envelope = sign(SAID, KEY)
    [signed] = envelope["signatures"]
    for unnamed in ({"sig": signed["sig"]}, {"sig": signed["sig"], "keyid": ""}, {"sig": signed["sig"], "keyid": None}):
        assert verify({**envelope, "signatures": [unnamed]}, KEY.public_key()) == SAID
    with pytest.raises(EvidenceError, match="another key"):
        verify({**envelope, "signatures": [{**signed, "keyid": "somebody"}]}, KEY.public_key())


def test_a_signature_is_of_one_payload_and_cannot_be_put_on_another():
    other = sign(statement({"delay@8": DIGEST}, "t", {}), KEY)
    with pytest.raises(EvidenceError, match="does not fit its content"):
        verify({**sign(SAID, KEY), "signatures": other["signatures"]}, KEY.public_key())
