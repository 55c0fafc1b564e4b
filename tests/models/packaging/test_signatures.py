"""What a model's own files tell of its inputs and outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bedplate.core.errors import DataError
from bedplate.models.packaging.signatures import example_of, signature_of, tensor
from models.packaging.test_formats import onnx_bytes


def test_an_onnx_graph_tells_names_types_and_shapes(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx_bytes())
    assert signature_of(tmp_path, {"m.onnx": "onnx"}) == {
        "inputs": [tensor("x", "float32", [-1, 4])],
        "outputs": [tensor("y", "float32", [-1, 4])],
        "known": True,
    }


def test_a_torch_export_tells_them_with_free_dimensions(tmp_path: Path) -> None:
    rows = torch.export.Dim("rows")
    exported = torch.export.export(torch.nn.Linear(2, 1), (torch.zeros(3, 2),), dynamic_shapes=({0: rows},))
    torch.export.save(exported, tmp_path / "m.pt2")
    found = signature_of(tmp_path, {"m.pt2": "torch_export"})
    assert [(each["dtype"], each["shape"]) for each in found["inputs"]] == [("float32", [-1, 2])]
    assert [(each["dtype"], each["shape"]) for each in found["outputs"]] == [("float32", [-1, 1])]


@pytest.mark.parametrize(
    ("architecture", "output"),
    [
        ("LlamaForCausalLM", tensor("logits", "float32", [-1, -1, 99])),
        ("BertForSequenceClassification", tensor("logits", "float32", [-1, 2])),
        ("BertModel", tensor("last_hidden_state", "float32", [-1, -1, 16])),
    ],
)
def test_a_configuration_of_transformers_is_read_by_its_architecture(tmp_path: Path, architecture: str, output: dict[str, object]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture], "vocab_size": 99, "hidden_size": 16}))
    found = signature_of(tmp_path, {"config.json": "data", "model.safetensors": "safetensors"})
    assert found["outputs"] == [output]
    assert [each["name"] for each in found["inputs"]] == ["input_ids", "attention_mask"]


def test_tree_models_and_mlflow_files(tmp_path: Path) -> None:
    learner = {"feature_names": ["a", "b"], "learner_model_param": {"num_feature": "2", "num_class": "3"}}
    (tmp_path / "x.json").write_text(json.dumps({"learner": learner}))
    found = signature_of(tmp_path, {"x.json": "xgboost"})
    assert ([each["name"] for each in found["inputs"]], found["outputs"][0]["shape"]) == (["a", "b"], [-1, 3])
    (tmp_path / "l.txt").write_text("tree\nversion=v4\nnum_class=1\nfeature_names=a b c\n\nTree=0\n")
    found = signature_of(tmp_path, {"l.txt": "lightgbm"})
    assert ([each["name"] for each in found["inputs"]], found["outputs"][0]["shape"]) == (["a", "b", "c"], [-1])
    inputs = [{"name": "alcohol", "type": "double"}, {"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1, 3]}}]
    (tmp_path / "MLmodel").write_text(f"flavors: {{}}\nsignature:\n  inputs: '{json.dumps(inputs)}'\n  outputs: null\n")
    found = signature_of(tmp_path, {"MLmodel": "data"})
    assert found["inputs"] == [tensor("alcohol", "float64", [-1]), tensor("input", "int64", [-1, 3])]
    assert signature_of(tmp_path, {"m.gguf": "gguf"})["outputs"][0]["name"] == "logits"


def test_what_no_file_tells_is_said_to_be_unknown(tmp_path: Path) -> None:
    assert signature_of(tmp_path, {"model.safetensors": "safetensors"}) == {"inputs": [], "outputs": [], "known": False}
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    assert not signature_of(tmp_path, {"MLmodel": "data"})["known"]
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"no JSON.*config\.json"):
        signature_of(tmp_path, {"config.json": "data"})


def test_an_example_has_the_shapes_of_the_signature() -> None:
    signature = {"inputs": [tensor("ids", "int64", [-1, 3]), tensor("word", "string", [-1]), tensor("on", "bool", [])]}
    assert example_of(signature) == {"inputs": {"ids": [[0, 0, 0]], "word": [""], "on": False}}


@pytest.mark.parametrize(
    ("config", "outputs"),
    [
        ({"architectures": ["GPT2LMHeadModel"], "vocab_size": 7}, [tensor("logits", "float32", [-1, -1, 7])]),
        ({"architectures": ["BertForMaskedLM"], "vocab_size": 7}, [tensor("logits", "float32", [-1, -1, 7])]),
        ({"architectures": ["XForCausalLM"], "text_config": {"vocab_size": 8}}, [tensor("logits", "float32", [-1, -1, 8])]),
        (
            {"architectures": ["XForSequenceClassification"], "vocab_size": 7, "id2label": {"0": "a", "1": "b", "2": "c"}},
            [tensor("logits", "float32", [-1, 3])],
        ),
        ({"architectures": ["XModel"], "vocab_size": 7}, [tensor("last_hidden_state", "float32", [-1, -1, -1])]),
        ({"architectures": [], "vocab_size": 7}, []),
        ({"vocab_size": 7}, []),
        ({"architectures": ["ViTModel"], "image_size": 224}, []),
        ([1, 2], []),
    ],
)
def test_a_head_tells_the_outputs_and_what_has_none_is_unknown(tmp_path: Path, config: object, outputs: list[object]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = signature_of(tmp_path, {"config.json": "data"})
    assert (found["outputs"], found["known"]) == (outputs, bool(outputs))


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("double", "float64"), ("float", "float32"), ("long", "int64"), ("integer", "int32"), ("boolean", "bool"), ("string", "string")],
)
def test_types_of_mlflows_columns(tmp_path: Path, kind: str, dtype: str) -> None:
    columns = json.dumps([{"name": "x", "type": kind}])
    (tmp_path / "MLmodel").write_text(f"signature:\n  inputs: '{columns}'\n  outputs: '[{{\"type\": \"double\"}}]'\n")
    found = signature_of(tmp_path, {"MLmodel": "data"})
    assert (found["inputs"], found["outputs"]) == ([tensor("x", dtype, [-1])], [tensor("output", "float64", [-1])])


@pytest.mark.parametrize(
    ("learner", "inputs", "shape"),
    [
        ({"learner_model_param": {"num_feature": "5"}}, [tensor("inputs", "float32", [-1, 5])], [-1]),
        (
            {"feature_names": [], "learner_model_param": {"num_feature": "5", "num_class": "0"}},
            [tensor("inputs", "float32", [-1, 5])],
            [-1],
        ),
        ({"feature_names": ["a"], "learner_model_param": {"num_feature": "1", "num_class": "1"}}, [tensor("a", "float32", [-1])], [-1]),
        ({"feature_names": ["a"], "learner_model_param": {"num_feature": "1", "num_class": "4"}}, [tensor("a", "float32", [-1])], [-1, 4]),
    ],
)
def test_an_xgboost_model_with_and_without_names(tmp_path: Path, learner: object, inputs: list[object], shape: list[int]) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"learner": learner}))
    found = signature_of(tmp_path, {"x.json": "xgboost"})
    assert (found["inputs"], found["outputs"][0]["shape"]) == (inputs, shape)
    (tmp_path / "x.ubj").write_bytes(b"{L\x00\x00learner")
    assert not signature_of(tmp_path, {"x.ubj": "xgboost"})["known"], "the binary form is not read"


def test_the_first_file_by_name_that_tells_is_believed(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(onnx_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["XForCausalLM"], "vocab_size": 7}))
    both = {"config.json": "data", "a.onnx": "onnx"}
    assert signature_of(tmp_path, both)["inputs"][0]["name"] == "x"
    assert signature_of(tmp_path, {"config.json": "data"})["inputs"][0]["name"] == "input_ids"


@pytest.mark.parametrize(
    ("dtype", "shape", "zeros"),
    [
        ("float32", [], 0.0),
        ("uint8", [], 0),
        ("bool", [-1], [False]),
        ("string", [2], ["", ""]),
        ("float64", [-1, -1, 2], [[[0.0, 0.0]]]),
        ("int64", [0], [0]),
        ("int64", [1000], [0] * 64),
    ],
)
def test_zeros_of_every_type_and_shape(dtype: str, shape: list[int], zeros: object) -> None:
    assert example_of({"inputs": [tensor("x", dtype, shape)]}) == {"inputs": {"x": zeros}}
