"""An endpoint described: OpenAPI 3.1, generated from its fields and its routes, and a page of that with nothing loaded from elsewhere.

Does not know: how anything is answered.
"""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from bedplate.serve.asgi import Route
from bedplate.serve.fields import Field

_TYPES: Mapping[str, Mapping[str, str]] = {
    "string": {"type": "string"},
    "timestamp": {"type": "string", "format": "date-time"},
    "int": {"type": "integer", "format": "int64"},
    "float": {"type": "number", "format": "double"},
    "bool": {"type": "boolean"},
}
_STATUSES: Mapping[str, str] = {
    "400": "the request cannot be read",
    "404": "there is no such row",
    "413": "the request is too large",
    "415": "the request is not declared as JSON",
    "422": "a field is missing, unknown or of another type",
    "500": "a failure inside; the value is its id in the log",
    "503": "too many requests wait; Retry-After says when to ask again",
    "504": "no answer within the deadline",
}
_STYLE = "body{font:16px/1.5 sans-serif;max-width:50em;margin:2em auto;padding:0 1em}pre{background:#8882;padding:1em;overflow:auto}"


def document(name: str, model: str, fields: Sequence[Field], example: Mapping[str, Any], routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of an endpoint (https://spec.openapis.org/oas/v3.1.0)."""
    schemas = {"Instance": _instance(fields, example), "Prediction": _PREDICTION, "Predictions": _PREDICTIONS, "Error": _ERROR}
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": model.partition("@")[2] or "1", "description": f"Answers by {model}."},
        "paths": {route.path: {method.lower(): _operation(route, method) for method in route.methods} for route in routes},
        "components": {"schemas": schemas},
    }


def page(specification: Mapping[str, Any]) -> str:
    """The document as one HTML page."""
    title = html.escape(specification["info"]["title"])
    parts = [f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"]
    parts.append(
        f"<p>{html.escape(specification['info']['description'])} The same as JSON: <code>/openapi.json</code>.</p><h2>Routes</h2><ul>"
    )
    for path, methods in specification["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<li><code>{method.upper()} {html.escape(path)}</code>: {html.escape(operation['summary'])}</li>")
    instance = json.dumps(specification["components"]["schemas"]["Instance"], indent=2)
    parts.append(f"</ul><h2>An instance</h2><pre>{html.escape(instance)}</pre>")
    return "".join(parts)


def _operation(route: Route, method: str) -> dict[str, Any]:
    told: dict[str, Any] = {"summary": route.summary, "responses": {"200": {"description": "the answer"}}}
    if method != "POST":
        return told
    told["responses"] |= {status: {"description": what} for status, what in _STATUSES.items()}
    if route.path == "/predict":
        told["requestBody"] = _content({"oneOf": [_ref("Instance"), _INSTANCES]}, required=True)
        answer = _content({"oneOf": [_ref("Prediction"), _ref("Predictions")]})
        told["responses"]["200"] = {"description": "the answer", **answer}
        for status in _STATUSES:
            told["responses"][status] |= _content(_ref("Error"))
    else:
        told["requestBody"] = _content({"type": "object"}, required=True)
    return told


def _content(schema: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": dict(schema)}}, **more}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _instance(fields: Sequence[Field], example: Mapping[str, Any]) -> dict[str, Any]:
    properties = {each.name: _property(each) for each in fields}
    required = [each.name for each in fields if each.required]
    told = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return told | ({"examples": [dict(example)]} if example else {})


def _property(each: Field) -> dict[str, Any]:
    known: dict[str, Any] = dict(_TYPES[each.type])
    return known if each.required else {**known, "type": [known["type"], "null"]}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


_TEXT, _NUMBER = {"type": "string"}, {"type": "number"}
_INSTANCES = _object(instances={"type": "array", "items": _ref("Instance"), "minItems": 1})
_PREDICTION = _object(id=_TEXT, prediction=_NUMBER, model=_TEXT)
_PREDICTIONS = _object(ids={"type": "array", "items": _TEXT}, predictions={"type": "array", "items": _NUMBER}, model=_TEXT)
_ERROR = _object(error=_object(what=_TEXT, value={}, fix=_TEXT))
