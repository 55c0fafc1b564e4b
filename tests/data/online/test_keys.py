"""The keys of rows: apart from one another, and below their namespace."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedplate.core.errors import DataError
from bedplate.data.online.keys import EPOCH, Keys, key_text, microseconds_of

FIELDS = (("shop", "string"), ("at", "timestamp"), ("open", "bool"), ("number", "int"))
GIVEN = {"shop": "a", "at": EPOCH, "open": True, "number": 3}


def test_no_two_rows_share_a_key() -> None:
    entity = '["a"]'
    all_keys = []
    for keys in (Keys(""), Keys("one:"), Keys("two:")):
        tiles = [keys.tile("v", entity, number) for number in (1, -1)]
        all_keys += [keys.meta, keys.guard("d"), keys.row("d", entity), keys.head("v", entity), *tiles]
    assert len(set(all_keys)) == len(all_keys)
    assert all(key.startswith(b"two:") for key in all_keys[-6:])


def test_the_entity_of_a_head() -> None:
    keys = Keys("one:")
    assert keys.entity("v", keys.head("v", '["a/b","ü"]')) == '["a/b","ü"]'
    assert keys.head("v", "x").startswith(keys.heads("v"))
    assert not keys.head("vw", "x").startswith(keys.heads("v"))


def test_the_text_of_a_key_is_canonical() -> None:
    expected = '["a",0,true,3]'
    assert key_text(FIELDS, GIVEN, "d") == expected
    assert key_text(FIELDS, GIVEN | {"at": "1970-01-01T01:00:00+01:00", "number": 3.0}, "d") == expected
    assert key_text(FIELDS, GIVEN | {"open": None}, "d") is None


@pytest.mark.parametrize("wrong", [{"open": 1}, {"number": "3"}, {"number": True}, {"shop": 3}, {"at": "late"}, {"at": 5}])
def test_values_of_another_type_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(DataError):
        key_text(FIELDS, GIVEN | wrong, "d")


def test_times_are_microseconds_of_utc() -> None:
    moment = datetime(2013, 11, 3, 4, tzinfo=UTC) + timedelta(microseconds=1)
    assert microseconds_of(moment) == microseconds_of(moment.replace(tzinfo=None)) == 1383451200000001


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(), st.booleans(), st.integers(-(2**63), 2**63 - 1)), min_size=2, max_size=8))
def test_entities_that_differ_have_keys_that_differ_and_are_read_back(entities: list[tuple[str, bool, int]]) -> None:
    fields, keys = (("a", "string"), ("b", "bool"), ("c", "int")), Keys("space:")
    texts = [key_text(fields, dict(zip("abc", each, strict=True)), "d") for each in entities]
    assert None not in texts
    heads = [keys.head("v", str(text)) for text in texts]
    assert len(set(heads)) == len(set(entities))
    assert [keys.entity("v", head) for head in heads] == texts
    assert [json.loads(str(text)) for text in texts] == [list(each) for each in entities]


@settings(deadline=None)
@given(st.datetimes(timezones=st.just(UTC)), st.integers(-14 * 60, 14 * 60))
def test_one_moment_is_one_key_whatever_its_time_zone(moment: datetime, minutes: int) -> None:
    moment = min(max(moment, datetime(2, 1, 1, tzinfo=UTC)), datetime(9998, 1, 1, tzinfo=UTC))
    local = moment.astimezone(timezone(timedelta(minutes=minutes)))
    fields = (("at", "timestamp"),)
    expected = key_text(fields, {"at": moment}, "d")
    assert key_text(fields, {"at": local}, "d") == key_text(fields, {"at": local.isoformat()}, "d") == expected
    assert EPOCH + timedelta(microseconds=json.loads(str(expected))[0]) == moment
