"""The keys of rows: apart from one another, and below their namespace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

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
