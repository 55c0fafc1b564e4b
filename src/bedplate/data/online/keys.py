"""The keys of the store's rows, and keys and entities as requests write them.

    NAMESPACE meta                          what is in the store
    NAMESPACE o/DATASET                     how far its events are applied (the guard of every commit)
    NAMESPACE r/DATASET/KEY                 a row by its key
    NAMESPACE h/VIEW/ENTITY                 the head of an entity
    NAMESPACE t/VIEW/ENTITY/NUMBER          one of its tiles

KEY and ENTITY are canonical JSON text.
Does not know: what is in the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from bedplate.core.clock import instant
from bedplate.core.errors import DataError, nearest
from bedplate.core.spec import ColumnType
from bedplate.data.keys import text
from bedplate.data.online.definition import Fields

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Keys:
    """The keys below one namespace."""

    namespace: str = ""

    @property
    def meta(self) -> bytes:
        """What is in the store."""
        return f"{self.namespace}meta".encode()

    def guard(self, dataset: str) -> bytes:
        """How far a dataset's events are applied."""
        return f"{self.namespace}o/{dataset}".encode()

    def row(self, dataset: str, key: str) -> bytes:
        """A dataset's row by its key."""
        return f"{self.namespace}r/{dataset}/{key}".encode()

    def head(self, view: str, entity: str) -> bytes:
        """The head of an entity."""
        return f"{self.namespace}h/{view}/{entity}".encode()

    def tile(self, view: str, entity: str, number: int) -> bytes:
        """A tile of an entity."""
        return f"{self.namespace}t/{view}/{entity}/{number}".encode()

    def heads(self, view: str) -> bytes:
        """What the heads of a view begin with."""
        return self.head(view, "")

    def entity(self, view: str, head: bytes) -> str:
        """The entity of a head's key."""
        return head[len(self.heads(view)) :].decode()


def key_text(fields: Fields, given: Mapping[str, Any], owner: str) -> str | None:
    """The canonical text of a key or entity, None when a field is null.

    Times may be ISO 8601 text. Raises DataError for a field that is unknown, missing or of another type.
    """
    if len(given) != len(fields) or any(name not in given for name, _ in fields):
        _refuse(fields, given, owner)
    values = [_coerced(given[name], kind, owner, name) for name, kind in fields]
    return None if None in values else text(values)


def microseconds_of(moment: datetime) -> int:
    """Microseconds since the epoch; a naive time is UTC."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (aware - EPOCH) // _MICROSECOND


def _refuse(fields: Fields, given: Mapping[str, Any], owner: str) -> None:
    names = [name for name, _ in fields]
    for name in given:
        if name not in names:
            raise DataError(f"{owner} has no such key field", value=name, fix=nearest(name, names))
    missing = next(name for name in names if name not in given)
    raise DataError(f"a key field of {owner} is missing", value=missing, fix=f"give all of {', '.join(names)}")


def _coerced(value: Any, kind: ColumnType, owner: str, name: str) -> str | int | bool | None:
    """A request's value as keys hold it: a time, also as ISO 8601 text, as microseconds since the epoch."""
    if value is None or (kind == "string" and _is_text(value)) or (kind == "bool" and isinstance(value, bool)):
        return cast("str | bool | None", value)
    if kind == "int" and isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    if kind == "timestamp" and isinstance(value, datetime):
        return microseconds_of(value)
    field = f"{owner}.{name}"
    if kind == "timestamp" and isinstance(value, str):
        try:
            return microseconds_of(instant(value))
        except (ValueError, OverflowError) as error:
            raise DataError(f"{field} is no time", value=value, fix="write ISO 8601, for example 2013-01-01T10:00:00Z") from error
    raise DataError(f"{field} has the wrong type", value=value, fix=f"give {kind}")


def _is_text(value: Any) -> bool:
    """Whether a value is a string that has a UTF-8 form: JSON can write half of a surrogate pair, which has none."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value))
