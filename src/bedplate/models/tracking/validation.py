"""What names, values and sizes MLflow takes, and what it says of others: limits and messages of `mlflow.utils.validation` (3.17).

Does not know: which of them exist.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bedplate.models.tracking.refusal import Refused, invalid

MAX_KEY = 250
MAX_PARAM_VALUE = 6000
MAX_TAG_VALUE = 8000
MAX_EXPERIMENT_TAG_VALUE = 20_000
MAX_MODEL_TAG_VALUE = 100_000
MAX_METRICS = 1000
MAX_PARAMS_OR_TAGS = 100
MAX_ENTITIES = 1000
_NAME = re.compile(r"[/\w.\- :]*")
_ALIAS = re.compile(r"[\w-]+")
_BAD_CHARACTERS = "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes (/)."
_INT64 = 1 << 63
_LAST_MS = 253_402_300_799_999  # of the year 9999

Point = tuple[str, float, int, int]  # key, value, milliseconds since the epoch, step


def text(body: Mapping[str, Any], name: str, *, required: bool = True) -> str:
    """The text that a request holds under `name`; "" if it is left out and may be. Raises Refused."""
    value = body.get(name)
    if value is None or (required and value == ""):
        if required:
            raise invalid(f"Missing value for required parameter '{name}'.")
        return ""
    if not isinstance(value, str):
        if required and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise invalid(f"Invalid value {json.dumps(value)} for parameter '{name}' supplied: Value was of type '{type(value).__name__}'")
    return value


def number(body: Mapping[str, Any], name: str, default: int) -> int:
    """The whole number that a request holds under `name`, also as text, as protobuf's JSON form has 64 bits. Raises Refused."""
    value = body.get(name)
    if value is None or value == "":
        return default
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]{1,20}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise invalid(f"Invalid value {json.dumps(value)} for parameter '{name}' supplied: it must be an integer")
    if not -_INT64 <= value < _INT64:
        raise invalid(f"Invalid value {json.dumps(value)} for parameter '{name}' supplied: it must be an integer of 64 bits")
    return value


def moment(body: Mapping[str, Any], name: str) -> int:
    """Milliseconds since the epoch, 0 where they are left out. Raises Refused for what no calendar has (after the year 9999)."""
    found = number(body, name, 0)
    if not 0 <= found <= _LAST_MS:
        raise invalid(f"Invalid value {found} for parameter '{name}' supplied: it must be a time in milliseconds, 0 to {_LAST_MS}")
    return found


def bounded(body: Mapping[str, Any], name: str, default: int, limit: int) -> int:
    """A page's size: 1 to `limit`. Raises Refused."""
    found = number(body, name, default)
    if not 0 < found <= limit:
        raise invalid(f"Invalid value {found} for parameter '{name}' supplied: It must be at most {limit} and positive.")
    return found


def items(body: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects that a request lists under `name`. Raises Refused."""
    found = body.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise invalid(f"Invalid value for parameter '{name}' supplied: it is not a list of objects")
    return found


def texts(body: Mapping[str, Any], name: str) -> list[str]:
    """The texts that a request lists under `name`; one alone is a list of one, as a query string has it. Raises Refused."""
    found = body.get(name)
    if found is None:
        return []
    listed = found if isinstance(found, list) else [found]
    if not all(isinstance(each, str | int) and not isinstance(each, bool) for each in listed):
        raise invalid(f"Invalid value for parameter '{name}' supplied: it is not a list of texts")
    return [str(each) for each in listed]


def listed(body: Mapping[str, Any], name: str) -> list[str]:
    """The texts that a request's body lists under `name`, where one alone is no list. Raises Refused."""
    if isinstance(body.get(name), str):
        raise invalid(f"Invalid value {json.dumps(body[name])} for parameter '{name}' supplied: Value was of type 'str'")
    return texts(body, name)


def check_name(key: object, path: str = "name") -> str:
    """A name of a metric, param or tag. Raises Refused."""
    if not isinstance(key, str) or not key:
        raise invalid(f"Missing value for required parameter '{path}'.")
    if len(key) > MAX_KEY:
        raise invalid(f"'{path}' exceeds the maximum length of {MAX_KEY} characters")
    shown = json.dumps(key)
    if not _NAME.fullmatch(key):
        raise invalid(f"Invalid value {shown} for parameter '{path}' supplied: {_BAD_CHARACTERS}")
    plain = posixpath.normpath(key)
    if plain != key or plain == "." or plain.startswith(("..", "/")):
        raise invalid(
            f"Invalid value {shown} for parameter '{path}' supplied: Names may be treated as files in certain cases, and must not resolve "
            f"to other names when treated as such. This name would resolve to {plain!r}"
        )
    return key


def pair(body: Mapping[str, Any], limit: int, path: str = "", what: str = "value") -> tuple[str, str]:
    """The key and the value of a param or tag; a value may be left out, and is "" then. Raises Refused."""
    key = check_name(body.get("key"), f"{path}key")
    value = body.get("value")
    if value is None:
        value = ""
    if not isinstance(value, str):
        raise invalid(
            f"Invalid value {json.dumps(value)} for parameter '{path}{what}' supplied: Value was of type '{type(value).__name__}'"
        )
    if len(value) > limit:
        raise invalid(f"'{path}{what}' exceeds the maximum length of {limit} characters")
    return key, value.encode(errors="replace").decode()


def pairs(given: Sequence[Mapping[str, Any]], limit: int, path: str) -> dict[str, str]:
    """The pairs of a list, the last of a key. Raises Refused."""
    return dict(pair(each, limit, f"{path}[{place}].") for place, each in enumerate(given))


def params(given: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The params of a batch; one key twice is refused, as MLflow does. Raises Refused."""
    keys = [each.get("key") for each in given]
    if len(set(map(str, keys))) != len(keys):
        twice = [key for place, key in enumerate(keys) if key in keys[:place]]
        raise invalid(
            f"Duplicate parameter keys have been submitted: {twice}. Please ensure the request contains only one param value per param key."
        )
    return pairs(given, MAX_PARAM_VALUE, "params")


def point(metric: Mapping[str, Any], checked: set[str], path: str = "") -> Point:
    """A metric's point. `checked` holds names that were found good, so that each is looked at once. Raises Refused.

    NaN and infinities come as the strings of protobuf's JSON form; numbers may come as text.
    """
    key = metric.get("key")
    if type(key) is not str or key not in checked:
        key = check_name(key, f"{path}name")
        if len(checked) < 100_000:
            checked.add(key)
    value, at_ms, step = metric.get("value"), metric.get("timestamp"), metric.get("step")
    if type(value) is not float:
        value = _real(value, f"{path}value")
    if type(at_ms) is not int or not 0 <= at_ms < _INT64:
        if at_ms is None:
            raise invalid(f"Missing value for required parameter '{path}timestamp'.")
        at_ms = number(metric, "timestamp", 0)
        if at_ms < 0:
            raise invalid(
                f"Invalid value {at_ms} for parameter '{path}timestamp' supplied: metric '{key}' (value={value}). "
                "Timestamp must be a nonnegative long (64-bit integer) "
            )
    if type(step) is not int or not -_INT64 <= step < _INT64:
        step = number(metric, "step", 0)
    assert isinstance(key, str)
    return key, value, at_ms, step


def _real(value: object, path: str) -> float:
    if value is None:
        raise invalid(f"Missing value for required parameter '{path}'.")
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        shown = json.dumps(value)
        raise invalid(
            f"Invalid value {shown} for parameter '{path}' supplied: Please specify value as a valid double (64-bit floating point)"
        ) from error


def check_batch(metrics: int, given_params: int, tags: int) -> None:
    """How many metrics, params and tags one request may hold. Raises Refused."""
    limits = (("metrics", metrics, MAX_METRICS), ("params", given_params, MAX_PARAMS_OR_TAGS), ("tags", tags, MAX_PARAMS_OR_TAGS))
    for what, count, limit in (*limits, ("metrics, params, and tags", metrics + given_params + tags, MAX_ENTITIES)):
        if count > limit:
            raise invalid(
                f"A batch logging request can contain at most {limit} {what}. Got {count} {what}. "
                f"Please split up {what} across multiple requests and try again."
            )


def check_experiment_name(name: object) -> str:
    """An experiment's name. Raises Refused."""
    if not isinstance(name, str) or not name:
        raise invalid(f"Invalid experiment name: '{name}'")
    if len(name) > 500:
        raise invalid("'name' exceeds the maximum length of 500 characters")
    return name


def check_model_name(name: object, field: str = "name") -> str:
    """A registered model's name. Raises Refused."""
    if not isinstance(name, str) or not name.strip():
        raise invalid(f"Missing value for required parameter '{field}'.")
    if "/" in name or ":" in name or "@" in name:
        raise invalid(f"Invalid model name '{name}'. Names cannot contain '/', ':' or '@'.")
    if posixpath.normpath(name) != name or name in (".", "..") or len(name) > 256:
        raise invalid(f"Invalid value {json.dumps(name)} for parameter '{field}' supplied: it cannot be a name")
    return name


def check_alias(alias: object) -> str:
    """An alias of a registered model. Raises Refused."""
    if not isinstance(alias, str) or not alias:
        raise invalid("Registered model alias name cannot be empty.")
    if not _ALIAS.fullmatch(alias):
        raise invalid(f"Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and dashes (-).")
    if len(alias) > 255:
        raise invalid("'Registered model alias name' exceeds the maximum length of 255 characters")
    if alias.lower() == "latest":
        raise invalid("'latest' alias name (case insensitive) is reserved.")
    if re.fullmatch(r"[vV]\d+", alias):
        raise invalid(f"Version alias name '{alias}' is reserved.")
    return alias


def not_served(method: str, path: str) -> Refused:
    """What MLflow has, perhaps, and this server has not."""
    return Refused("ENDPOINT_NOT_FOUND", f"this tracking server has no route {method} {path}")
