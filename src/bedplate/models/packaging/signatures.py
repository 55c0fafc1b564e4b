"""The signature of a model whose maker gave none: inputs, outputs, their types and shapes, as far as its own files tell them.

Read from ONNX graphs, torch.export archives, configurations of `transformers`, `MLmodel` files, XGBoost and LightGBM. What no file tells
is left empty and said to be unknown. -1 is a dimension of any length.
Does not know: how a model is run.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from bedplate.core.errors import DataError
from bedplate.models import wire

_ONNX = {1: "float32", 2: "uint8", 3: "int8", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool", 10: "float16", 11: "float64"}
_TORCH = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 12: "bool", 13: "bfloat16"}
_MLFLOW = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}


def signature_of(folder: Path, kinds: Mapping[str, str]) -> dict[str, Any]:
    """`inputs` and `outputs` of the model whose files, by name below `folder`, are of these kinds.

    `known` is False when nothing tells them.
    """
    for name, kind in sorted(kinds.items()):
        reader = _READERS.get(Path(name).name) or _READERS.get(kind)
        found = reader(folder / name) if reader is not None else None
        if found is not None:
            return {**found, "known": True}
    return {"inputs": [], "outputs": [], "known": False}


def tensor(name: str, dtype: str, shape: Iterable[int]) -> dict[str, Any]:
    """One input or output."""
    return {"name": name, "dtype": dtype, "shape": list(shape)}


def example_of(signature: Mapping[str, Any]) -> dict[str, Any]:
    """An example of one row of zeros for a signature, in which a dimension of any length is 1."""
    return {"inputs": {each["name"]: _zeros(each["dtype"], each["shape"]) for each in signature["inputs"]}}


def _zeros(dtype: str, shape: list[int]) -> Any:
    if not shape:
        return "" if dtype == "string" else False if dtype == "bool" else 0 if "int" in dtype else 0.0
    length = max(1, shape[0])
    return [_zeros(dtype, shape[1:])] * min(length, 64)


def _config(path: Path) -> dict[str, Any] | None:
    """A configuration of `transformers`: what its head gives is told by the name of the architecture."""
    config = _json(path)
    head = next(iter(config.get("architectures") or [""]))
    text = config.get("text_config") or config
    vocabulary = text.get("vocab_size")
    if not head or vocabulary is None:
        return None
    inputs = [tensor("input_ids", "int64", [-1, -1]), tensor("attention_mask", "int64", [-1, -1])]
    if head.endswith(("ForCausalLM", "LMHeadModel", "ForMaskedLM")):
        return {"inputs": inputs, "outputs": [tensor("logits", "float32", [-1, -1, int(vocabulary)])]}
    if head.endswith("ForSequenceClassification"):
        labels = len(config.get("id2label") or [0, 1])
        return {"inputs": inputs, "outputs": [tensor("logits", "float32", [-1, labels])]}
    return {"inputs": inputs, "outputs": [tensor("last_hidden_state", "float32", [-1, -1, int(text.get("hidden_size", -1))])]}


def _mlmodel(path: Path) -> dict[str, Any] | None:
    """The signature of MLflow's model file (https://mlflow.org/docs/latest/ml/model/signatures)."""
    values = yaml.safe_load(path.read_text())
    signature = values.get("signature") if isinstance(values, dict) else None
    if not signature:
        return None
    return {side: [_mlflow_tensor(each, side) for each in json.loads(signature.get(side) or "[]")] for side in ("inputs", "outputs")}


def _mlflow_tensor(each: Mapping[str, Any], side: str) -> dict[str, Any]:
    name = str(each.get("name", side.removesuffix("s")))
    if each["type"] == "tensor":
        return tensor(name, each["tensor-spec"]["dtype"], each["tensor-spec"]["shape"])
    return tensor(name, _MLFLOW.get(each["type"], str(each["type"])), [-1])


def _onnx(path: Path) -> dict[str, Any] | None:
    """The graph's inputs (without those that are weights) and outputs (onnx/onnx.proto: ModelProto.graph = 7)."""
    graph = next(field.message for field in wire.fields(path.read_bytes()) if field.number == 7)
    weights = {part.text for field in graph if field.number == 5 for part in field.message if part.number == 8}
    sides = {side: [_value_info(field) for field in graph if field.number == number] for side, number in (("inputs", 11), ("outputs", 12))}
    return {side: [each for each in found if each["name"] not in weights] for side, found in sides.items()}


def _value_info(field: wire.Field) -> dict[str, Any]:
    parts = {part.number: part for part in field.message}
    shape: list[int] = []
    dtype = "unknown"
    for kind in parts[2].message if 2 in parts else ():
        if kind.number == 1:  # a tensor: elem_type = 1, shape = 2
            for part in kind.message:
                if part.number == 1:
                    dtype = _ONNX.get(part.signed, str(part.signed))
                else:
                    shape = [next((size.signed for size in dim.message if size.number == 1), -1) for dim in part.message if dim.number == 1]
    return tensor(parts[1].text, dtype, shape)


def _exported(path: Path) -> dict[str, Any] | None:
    """The user's inputs and outputs of a torch.export archive (torch/_export/serde/schema.py)."""
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if re.search(r"/models/[^/]+\.json$", name)), None)
        if name is None:
            return None
        module = json.loads(archive.read(name))["graph_module"]
    values = module["graph"]["tensor_values"]

    def of(specs: Iterable[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
        names = [spec[kind]["arg"]["as_tensor"]["name"] for spec in specs if kind in spec and "as_tensor" in spec[kind]["arg"]]
        return [_exported_tensor(name, values[name]) for name in names]

    signature = module["signature"]
    return {"inputs": of(signature["input_specs"], "user_input"), "outputs": of(signature["output_specs"], "user_output")}


def _exported_tensor(name: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    return tensor(name, _TORCH.get(meta["dtype"], str(meta["dtype"])), [size.get("as_int", -1) for size in meta["sizes"]])


def _xgboost(path: Path) -> dict[str, Any] | None:
    if path.read_bytes()[:2] == b"{L":
        return None  # the binary form: its names are not worth a reader of their own
    learner = _json(path)["learner"]
    names = learner.get("feature_names") or []
    width = int(learner["learner_model_param"]["num_feature"])
    classes = max(1, int(learner["learner_model_param"].get("num_class", "0")))
    inputs = [tensor(name, "float32", [-1]) for name in names] or [tensor("inputs", "float32", [-1, width])]
    return {"inputs": inputs, "outputs": [tensor("prediction", "float32", [-1] if classes == 1 else [-1, classes])]}


def _lightgbm(path: Path) -> dict[str, Any] | None:
    head = path.read_text(errors="replace").partition("\n\n")[0]
    values = dict(line.split("=", 1) for line in head.splitlines() if "=" in line)
    classes = int(values.get("num_class", "1"))
    inputs = [tensor(name, "float64", [-1]) for name in values.get("feature_names", "").split()]
    return {"inputs": inputs, "outputs": [tensor("prediction", "float64", [-1] if classes == 1 else [-1, classes])]}


def _gguf(_path: Path) -> dict[str, Any] | None:
    return {"inputs": [tensor("input_ids", "int64", [-1, -1])], "outputs": [tensor("logits", "float32", [-1, -1, -1])]}


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise DataError("a model's file is no JSON", value=str(path), fix="fetch or write it again") from error
    return values if isinstance(values, dict) else {}


_READERS: Mapping[str, Callable[[Path], dict[str, Any] | None]] = {
    "MLmodel": _mlmodel,
    "config.json": _config,
    "onnx": _onnx,
    "torch_export": _exported,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "gguf": _gguf,
}
