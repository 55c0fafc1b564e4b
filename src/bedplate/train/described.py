"""What a saved model says of itself for readers that do not have its code: inputs, outputs, their types and shapes, one example.

Types are numpy's names, and "string"; -1 is a dimension of any length, as in MLflow's tensor signatures. The example is made of fitted
means and first words, never of a row of the data: a model's folder may go where the data must not.
Does not know: the network, or how a row is encoded (`preprocess`).
"""

from __future__ import annotations

from typing import Any

from bedplate.train.preprocess import Preprocessing, Signature


def described(signature: Signature) -> dict[str, Any]:
    """The signature as JSON: what the project's own readers want, and `inputs` and `outputs` as everybody writes them."""
    return {**signature.to_json(), "inputs": _inputs(signature), "outputs": _outputs(signature)}


def example(preprocessing: Preprocessing) -> dict[str, Any]:
    """`inputs`: one row that the model can answer; none for tokens and images, whose rows are bulky."""
    if preprocessing.signature.kind != "table":
        return {"inputs": []}
    numbers = {scale.name: scale.mean for scale in preprocessing.numeric}
    words = {vocabulary.name: vocabulary.words[0] if vocabulary.words else None for vocabulary in preprocessing.categorical}
    return {"inputs": [{**numbers, **words}]}


def _inputs(signature: Signature) -> list[dict[str, Any]]:
    if signature.kind == "tokens":
        return [_tensor("tokens", "int64", [-1, signature.sequence])]
    if signature.kind == "images":
        return [_tensor("images", "uint8", [-1, 3, *signature.size])]
    numbers = [_tensor(name, "float64", [-1]) for name in signature.numeric]
    return [*numbers, *(_tensor(name, "string", [-1]) for name in signature.categorical)]


def _outputs(signature: Signature) -> list[dict[str, Any]]:
    if signature.kind == "tokens":
        return [_tensor("logits", "float32", [-1, -1, signature.vocabulary])]
    if signature.kind == "images" and signature.classes:
        return [_tensor(signature.label or "class", "float32", [-1, len(signature.classes)])]
    return [_tensor(signature.label or "value", "float64", [-1])]


def _tensor(name: str, dtype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": shape}
