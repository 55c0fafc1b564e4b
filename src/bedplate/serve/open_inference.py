"""The Open Inference Protocol, version 2, over REST: health, metadata and `infer`, with the binary tensor data extension.

    GET  /v2, /v2/health/live, /v2/health/ready, /v2/models/NAME[/versions/V][/ready]
    POST /v2/models/NAME[/versions/V]/infer

A field of the endpoint is an input tensor of its name and of the shape [rows] or [rows, 1]; the one output is `prediction`, FP64 [rows].
(https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md, and for raw bytes behind the
JSON https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_binary_data.html.)
Does not know: how rows are answered.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bedplate.serve.asgi import Call, Refused, Route, encoded, json_object
from bedplate.serve.fields import Field, shown

OUTPUT = "prediction"
_EXTENSION = b"inference-header-content-length"
_MAX_ROWS = 1000
_DATATYPES: Mapping[str, str] = {"string": "BYTES", "timestamp": "BYTES", "int": "INT64", "float": "FP64", "bool": "BOOL"}
_CODES: Mapping[str, str] = {
    "BOOL": "?", "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "FP16": "e", "FP32": "f", "FP64": "d",
}  # fmt: skip

Answer = Callable[[Call, Sequence[Mapping[str, Any]]], Awaitable[tuple[list[str], list[float]]]]


@dataclass(frozen=True)
class Described:
    """A model as the protocol describes it: its name, its version, and its fields."""

    name: str
    version: str
    fields: tuple[Field, ...]


def described(name: str, version: str, fields: tuple[Field, ...]) -> Described:
    """The description of one model version."""
    return Described(name, version, fields)


def inference_error(refused: Refused) -> object:
    """An error of this protocol: one text."""
    value = "" if refused.value is None else f" (got {refused.value!r})"
    return {"error": f"{refused.what}{value}. Fix: {refused.fix}"}


def inference_routes(model: Described, answer: Answer) -> list[Route]:
    """The routes of one model; `answer` answers rows."""
    tensors = [{"name": each.name, "datatype": _DATATYPES[each.type], "shape": [-1]} for each in model.fields]
    metadata = {
        "name": model.name,
        "versions": [model.version],
        "platform": "bedplate",
        "inputs": tensors,
        "outputs": [{"name": OUTPUT, "datatype": "FP64", "shape": [-1]}],
    }

    def told(value: object) -> Callable[[Call], Awaitable[None]]:
        async def tell(call: Call) -> None:
            await call.reply_json(value)

        return tell

    async def infer(call: Call) -> None:
        request, raw = await _request(call)
        rows = _rows(model, request, raw)
        ids, predictions = await answer(call, rows)
        await _reply(call, model, request, ids, predictions)

    def route(path: str, method: str, handler: Callable[[Call], Awaitable[None]], summary: str) -> Route:
        return Route(path, {method: handler}, summary, inference_error)

    server = {"name": "bedplate", "version": "2", "extensions": ["binary_tensor_data"]}
    routes = [
        route("/v2", "GET", told(server), "the server and its extensions"),
        route("/v2/health/live", "GET", told({"live": True}), "whether the process lives"),
        route("/v2/health/ready", "GET", told({"ready": True}), "whether it answers"),
    ]
    for path in (f"/v2/models/{model.name}", f"/v2/models/{model.name}/versions/{model.version}"):
        routes += [
            route(path, "GET", told(metadata), "inputs and outputs"),
            route(f"{path}/ready", "GET", told({"name": model.name, "ready": True}), "whether the model answers"),
            route(f"{path}/infer", "POST", infer, "predictions for tensors of fields"),
        ]
    return routes


async def _request(call: Call) -> tuple[dict[str, Any], bytes]:
    """The request, and the raw bytes behind its JSON."""
    length = call.header(_EXTENSION)
    if not length:
        return await call.json(), b""
    data = await call.body()
    if not length.isdecimal() or int(length) > len(data):
        raise Refused(400, "the length of the JSON is wrong", value=shown(length), fix="send Inference-Header-Content-Length: BYTES")
    return json_object(data[: int(length)]), data[int(length) :]


def _rows(model: Described, request: Mapping[str, Any], raw: bytes) -> list[dict[str, Any]]:
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or not inputs or not all(isinstance(each, dict) for each in inputs):
        raise Refused(400, '"inputs" is a list of tensors', fix='send {"inputs": [{"name", "shape", "datatype", "data"}, ...]}')
    kinds = {each.name: each.type for each in model.fields}
    columns: dict[str, list[Any]] = {}
    place = 0
    for tensor in inputs:
        name, values, place = _tensor(tensor, raw, place)
        columns[name] = [_converted(value, kinds.get(name, "")) for value in values]
    if place != len(raw):
        raise Refused(400, "there are more raw bytes than the inputs name", value=len(raw) - place, fix="correct binary_data_size")
    counts = {len(values) for values in columns.values()}
    if len(counts) != 1 or not 0 < (count := counts.pop()) <= _MAX_ROWS:
        fix = f"send tensors of one length, 1 to {_MAX_ROWS}"
        raise Refused(400, "the inputs have no common number of rows", value=sorted(map(len, columns.values()))[-1], fix=fix)
    return [{name: values[row] for name, values in columns.items()} for row in range(count)]


def _tensor(tensor: Mapping[str, Any], raw: bytes, place: int) -> tuple[str, list[Any], int]:
    """A tensor's name, its values, and the place in the raw bytes behind it."""
    name, shape, datatype = tensor.get("name"), tensor.get("shape"), tensor.get("datatype")
    if not isinstance(name, str) or datatype not in (*_CODES, "BYTES"):
        fix = f"name it, with a datatype of {', '.join((*_CODES, 'BYTES'))}"
        raise Refused(400, "a tensor lacks its name or datatype", value=shown(datatype), fix=fix)
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape) or shape[1:] not in ([], [1]) or not shape:
        raise Refused(400, f"the tensor {name!r} is no column", value=shown(str(shape)), fix="send the shape [rows] or [rows, 1]")
    size = (tensor.get("parameters") or {}).get("binary_data_size")
    if size is None:
        values = tensor.get("data")
        if isinstance(values, list) and values and all(isinstance(value, list) for value in values):
            values = [each for value in values for each in value]
    else:
        if type(size) is not int or not 0 <= size <= len(raw) - place:
            raise Refused(400, f"the raw bytes of {name!r} are not there", value=shown(size), fix="correct binary_data_size")
        values, place = _unpacked(name, datatype, raw[place : place + size]), place + size
    if not isinstance(values, list) or len(values) != shape[0]:
        raise Refused(400, f"the data of {name!r} does not have its shape", value=shown(str(shape)), fix="send as many values as the shape")
    return name, values, place


def _unpacked(name: str, datatype: str, data: bytes) -> list[Any]:
    """Raw values, little-endian; a text is its length in 4 bytes and its UTF-8."""
    fix = "send values of the datatype, little-endian; BYTES with 4 bytes of length each"
    try:
        if datatype != "BYTES":
            code = _CODES[datatype]
            return list(struct.unpack(f"<{len(data) // struct.calcsize(code)}{code}", data))
        values = []
        while data:
            (length,) = struct.unpack_from("<I", data)
            if len(data) < 4 + length:
                raise ValueError(length)
            values.append(data[4 : 4 + length].decode())
            data = data[4 + length :]
        return values
    except (struct.error, ValueError) as error:
        raise Refused(400, f"the raw bytes of {name!r} are no {datatype}", value=len(data), fix=fix) from error


def _converted(value: Any, kind: str) -> Any:
    """A value as the field wants it: a tensor has no null, so not-a-number stands for it, and whole floats are numbers of rows."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if kind == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


async def _reply(call: Call, model: Described, request: Mapping[str, Any], ids: Sequence[str], predictions: Sequence[float]) -> None:
    asked = request.get("outputs") or [{"name": OUTPUT}]
    if not isinstance(asked, list) or not all(isinstance(each, dict) and each.get("name") == OUTPUT for each in asked):
        raise Refused(400, "there is no such output", value=shown(str(asked)), fix=f"the one output is {OUTPUT!r}")
    binary = (asked[0].get("parameters") or {}).get("binary_data", (request.get("parameters") or {}).get("binary_data_output", False))
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP64", "shape": [len(predictions)]}
    raw = struct.pack(f"<{len(predictions)}d", *predictions) if binary is True else b""
    output |= {"parameters": {"binary_data_size": len(raw)}} if raw else {"data": list(predictions)}
    told = {
        "model_name": model.name,
        "model_version": model.version,
        "id": request["id"] if isinstance(request.get("id"), str) else ids[0],
        "parameters": {"answers": list(ids)},
        "outputs": [output],
    }
    head = encoded(told)
    if not raw:
        await call.reply(200, head)
        return
    await call.reply(200, head + raw, b"application/octet-stream", [(_EXTENSION, str(len(head)).encode())])
